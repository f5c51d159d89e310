"""Everything that changes while a network trains, as one value that a checkpoint can hold."""

from copy import deepcopy
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from models.records import EpochRecord
from models.training.checkpoint import Packed
from models.training.early_stop import EarlyStop
from models.training.plan import Plan

COUNTERS = ("epoch", "step", "images", "epoch_s", "total_s")  # fields that are plain numbers


@dataclass
class Training:
    """No random state is here: order, augmentation and dropout are functions of (seed, epoch, step)."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    plan: Plan
    stop: EarlyStop
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
        return self.epoch >= self.plan.epochs or self.stop.spent

    def next_epoch(self) -> None:
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
        """Into a fresh value of the same configuration."""
        self.net.load_state_dict(packed["net"])
        self.optimizer.load_state_dict(packed["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(packed["average"])
        self.plan = Plan(**packed["plan"])
        self.stop = EarlyStop(**packed["stop"])
        self.history = [EpochRecord(**record) for record in packed["history"]]
        self.best, self.sums = packed["best"], packed["sums"]
        for name in COUNTERS:
            setattr(self, name, packed[name])


def copy_for_average(net: nn.Module) -> nn.Module:
    return deepcopy(net).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, *, decay: float, step: int) -> None:
    """Exponential moving average of weights and norm statistics.

    A young average forgets faster, or it would remember the random start for 1 / (1 - decay) steps.
    """
    decay = min(decay, (1 + step) / (10 + step))
    ours, theirs = average.state_dict(), net.state_dict()
    moving = [name for name, tensor in ours.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([ours[name] for name in moving], [theirs[name] for name in moving], 1 - decay)
    for name in ours.keys() - moving:
        ours[name].copy_(theirs[name])
