"""Everything that changes while a network trains, as one value that a checkpoint can hold."""

from copy import deepcopy
from dataclasses import asdict, dataclass, field
from statistics import median

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from data.errors import InputError
from models.config import TrainConfig
from models.device import describe
from models.records import EpochRecord, FitSummary
from models.training.checkpoint import Checkpoints, Packed
from models.training.early_stop import EarlyStop
from models.training.plan import Plan, plan_of

COUNTERS = ("epoch", "step", "images", "epoch_s", "total_s")  # fields that are plain numbers


class Misfit(ValueError):  # noqa: N818 - a state, as in Diverged
    """A checkpoint of something else."""


@dataclass(frozen=True)
class FitResult:
    weights: dict[str, Tensor]  # of the best epoch, on the CPU
    history: tuple[EpochRecord, ...]
    summary: FitSummary


@dataclass
class Training:
    """No random state is here: order, augmentation and dropout are functions of (seed, epoch, step)."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    plan: Plan
    stop: EarlyStop
    spread: nn.Module  # what takes a batch: `net`, or `net` over several processes
    average: nn.Module | None = None  # moving average of the weights, if asked for
    epoch: int = 0
    step: int = 0  # done in this epoch
    sums: Tensor = field(default_factory=lambda: torch.zeros(2))  # over this epoch's steps: what `train_step` returns
    images: int = 0  # this epoch's
    epoch_s: float = 0.0  # this epoch's, in training
    total_s: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the best epoch
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.net if self.average is None else self.average

    @property
    def steps_done(self) -> int:
        return self.epoch * self.plan.steps_per_epoch + self.step

    @property
    def finished(self) -> bool:
        """Never within an epoch: one during which a revised plan took patience away is still judged."""
        return self.epoch >= self.plan.epochs or (self.step == 0 and self.stop.spent)

    def end_epoch(self, record: EpochRecord, *figures: float) -> None:
        """`figures` are those that early stopping watches."""
        self.history.append(record)
        self.stop = self.stop.seen(*figures)
        if self.stop.improved:
            self.keep_best()
        self.epoch, self.step, self.images, self.epoch_s = self.epoch + 1, 0, 0, 0.0
        self.sums.zero_()

    def keep_best(self) -> None:
        self.best = {name: tensor.detach().clone() for name, tensor in self.judged.state_dict().items()}

    def pack(self) -> Packed:
        """Refers to the live tensors: write it before the next step."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "plan": asdict(self.plan),
            "stop": asdict(self.stop),
            "history": [record.model_dump() for record in self.history],
            "best": self.best,
            "sums": self.sums,
            **{name: getattr(self, name) for name in COUNTERS},
        }

    def restore(self, packed: Packed) -> None:
        """Into a fresh value of the same configuration. Raises `Misfit`, before anything is changed."""
        try:
            require_fit(self, packed)
            self.plan, self.stop = plan_of(packed["plan"]), EarlyStop(**packed["stop"])
            self.history = [EpochRecord(**record) for record in packed["history"]]
        except (KeyError, TypeError, AttributeError, IndexError, ValidationError) as error:
            raise Misfit(f"it is of another form ({type(error).__name__}: {str(error).splitlines()[0]})") from None
        self.net.load_state_dict(packed["net"])
        self.optimizer.load_state_dict(packed["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(packed["average"])
        self.best, self.sums = packed["best"], packed["sums"].to(self.sums.device)
        for name in COUNTERS:
            setattr(self, name, packed[name])


def resume(training: Training, saved: Packed, checkpoints: Checkpoints) -> None:
    """Raises `InputError` for a checkpoint of another network, optimiser or version of this program."""
    try:
        training.restore(saved)
    except Misfit as error:
        raise InputError(
            f"the checkpoint in {checkpoints.folder} does not fit: {error}; this program has changed since it was "
            "written, so go on with the version that wrote it, or remove that folder to train this run afresh"
        ) from None


def require_fit(training: Training, packed: Packed) -> None:
    """Raises `Misfit` that names the first tensor of `packed` that has no place in `training`."""
    net, optimizer = training.net, training.optimizer
    require_same(net.state_dict(), packed["net"])
    if (training.average is None) != (packed["average"] is None):
        raise Misfit(f"it holds {'no' if packed['average'] is None else 'a'} moving average of the weights")
    here, there = groups_of(optimizer.state_dict()), groups_of(packed["optimizer"])
    if here != there:
        raise Misfit(f"its optimizer has {there}, and this one {here}")
    names = {id(weight): name for name, weight in net.named_parameters()}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, state in packed["optimizer"]["state"].items():
        for key, tensor in state.items():
            if isinstance(tensor, Tensor) and tensor.ndim and tensor.shape != weights[index].shape:
                raise Misfit(
                    f"the optimizer's {key} of {names[id(weights[index])]} is {tuple(tensor.shape)} there "
                    f"and {tuple(weights[index].shape)} here"
                )


def require_same(here: dict[str, Tensor], there: dict[str, Tensor]) -> None:
    """The same names and shapes, or `Misfit`."""
    for name in [*here, *(name for name in there if name not in here)]:
        shapes = [tuple(side[name].shape) if name in side else None for side in (there, here)]
        if shapes[0] != shapes[1]:
            told = [str(shape) if shape is not None else "missing" for shape in shapes]
            raise Misfit(f"{name} is {told[0]} there and {told[1]} here")


def groups_of(optimizer: Packed) -> str:
    """Settings and number of weights of each group, in words."""
    groups = optimizer["param_groups"]
    return "; ".join(f"{len(group['params'])} weights with {', '.join(sorted(group.keys()))}" for group in groups)


def copy_for_average(net: nn.Module) -> nn.Module:
    return deepcopy(net).eval().requires_grad_(False)


class Averaging:
    """Exponential moving average of weights and norm statistics; counters are copied.

    The tensors are looked up once: make another where one of the networks gets others, as by `to`. Training and
    `load_state_dict` change them in place.
    """

    def __init__(self, average: nn.Module, net: nn.Module, *, decay: float) -> None:
        self._decay = decay
        ours, theirs = average.state_dict(keep_vars=True), net.state_dict(keep_vars=True)
        moving = [name for name, tensor in ours.items() if tensor.is_floating_point()]
        counters = [name for name in ours if name not in moving]
        self._moving = [ours[name] for name in moving], [theirs[name] for name in moving]
        self._counters = [ours[name] for name in counters], [theirs[name] for name in counters]

    @torch.no_grad()
    def update(self, *, step: int) -> None:
        """A young average forgets faster, or it would remember the random start for 1 / (1 - decay) steps."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self._moving, 1 - decay)
        if self._counters[0]:
            torch._foreach_copy_(*self._counters)


def averaging(training: Training, config: TrainConfig) -> Averaging | None:
    """None where no moving average is asked for."""
    if training.average is None or config.ema is None:
        return None
    return Averaging(training.average, training.net, decay=config.ema)


def result_of(training: Training) -> FitResult:
    history, best_epoch = training.history, training.stop.best_epoch
    assert best_epoch is not None  # at least one epoch was judged, and NaN raises
    summary = FitSummary(
        epochs_planned=training.plan.epochs,
        epochs_run=len(history),
        best_epoch=best_epoch,
        stopped_early=len(history) < training.plan.epochs,
        seconds=training.total_s,
        images_per_s=median(record.images_per_s for record in history),
        parameters=sum(parameter.numel() for parameter in training.net.parameters()),
        device=describe(training.sums.device),
        patience=training.plan.patience,
    )
    weights = {name: tensor.cpu().contiguous() for name, tensor in training.best.items()}
    return FitResult(weights=weights, history=tuple(history), summary=summary)
