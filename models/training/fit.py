"""The training loop: `fit` trains a network, validates it after every epoch, and returns the best weights.

All randomness is a function of (seed, epoch, step): the batches by their own generators, dropout by seeding torch's
generator before each step, the only global state touched. A run that was killed goes on from its checkpoint with the
same arithmetic in the same order, and on a CPU ends with the same bits as one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from models.config import TrainConfig
from models.device import seed
from models.records import EpochRecord, RateTest
from models.training.checkpoint import Checkpoints
from models.training.config import OptimizerConfig, ScheduleConfig
from models.training.distributed import ALONE, Ranks
from models.training.early_stop import EarlyStop, monitored
from models.training.gradients import by_layer, optimized
from models.training.optim import build_optimizer, set_peak, set_rate
from models.training.plan import Plan, behind, make_plan, revised
from models.training.pulse import ProgressUpdate, Pulse, check_finite, diverged, never
from models.training.schedule import factor
from models.training.state import FitResult, Training, averaging, copy_for_average, result_of, resume
from models.training.step import dropout_seed, train_step
from models.training.trial import measure_speed, try_rates


class Batches(Protocol):
    """What is trained on: the batches of an epoch are a function of the epoch alone."""

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def growing(self) -> float:
        """The share of a run in which pictures are smaller, and steps cheaper; 0 if they never are."""
        ...

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
        """pixels (B, H, W, C) of 0..255; targets int64 (B,) or float (B, K). `done` is the share of the run behind."""
        ...


UNKNOWN = Plan(steps_per_epoch=1, total_steps=1, patience=1)  # until the saved one is restored


class Validation(NamedTuple):
    loss: float
    accuracy: float


Validate = Callable[[nn.Module], Validation]


def ignore(_: object) -> None:
    """The listener that does not."""


def asked_anywhere(ranks: Ranks, stop: Callable[[], bool]) -> bool:
    return ranks.any(stop())


def fit(
    net: nn.Module,
    batches: Batches,
    validate: Validate,
    *,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    config: TrainConfig,
    class_weights: Tensor | None = None,
    start: Callable[[nn.Module], None] = ignore,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
    on_rates: Callable[[RateTest], None] = ignore,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> FitResult:
    """Train `net`, in place, on the device it is on. With `checkpoints` it goes on where they end; `start` fills in
    what training starts from where there are none.

    `on_epoch` hears of every epoch at least once: again of those after the last checkpoint before a kill. `on_rates`
    hears how an "auto" rate was found. `stop` is asked after every step, also of those that try something out; once it
    says yes, the state is saved, if there is one yet.
    Raises `Diverged`, `Stopped`, `InputError`.
    """
    net.to(memory_format=torch.channels_last)
    asked = partial(asked_anywhere, ranks, stop)
    begun = partial(begin, net, batches, validate, optimizer=optimizer, schedule=schedule, config=config, start=start)
    training = begun(class_weights=class_weights, checkpoints=checkpoints, on_rates=on_rates, stop=asked, ranks=ranks)
    one_epoch = partial(train_epoch, schedule=schedule, config=config, class_weights=class_weights, rank=ranks.rank)
    revise = partial(revise_plan, training, config=config, schedule=schedule, ranks=ranks)
    pulse = Pulse(training, checkpoints, on_progress, asked, revise)
    while not training.finished:
        one_epoch(training, batches, pulse=pulse)
        record = judge_epoch(training, validate)
        training.end_epoch(record, *monitored(record, config))
        on_epoch(record)
        pulse.end_epoch()
    return result_of(training)


def begin(
    net: nn.Module,
    batches: Batches,
    validate: Validate,
    *,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    config: TrainConfig,
    checkpoints: Checkpoints | None,
    start: Callable[[nn.Module], None] = ignore,
    class_weights: Tensor | None = None,
    on_rates: Callable[[RateTest], None] = ignore,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> Training:
    """Where the checkpoints end, or at the start; what was decided by trying is saved before the first step."""
    saved = checkpoints.load() if checkpoints else None
    ranks.require_same(saved is not None, "none" if saved is None else "one")  # before any tries or goes on alone
    steps = build_optimizer(net, optimizer)
    choose = partial(decide, net, batches, validate, steps, optimizer=optimizer, schedule=schedule, config=config)
    plan, took_s = UNKNOWN, 0.0
    if saved is None:
        start(net)
        plan, took_s = choose(class_weights=class_weights, on_rates=on_rates, stop=stop, ranks=ranks)
    training = Training(
        net=net,
        spread=ranks.spread(net),
        optimizer=steps,
        plan=plan,
        stop=EarlyStop(patience=plan.patience),
        average=None if config.ema is None else copy_for_average(net),
        sums=torch.zeros(2 + len(optimized(steps)), device=next(net.parameters()).device),
        total_s=took_s,
    )
    if checkpoints is not None and saved is not None:
        resume(training, saved, checkpoints)
    ranks.require_same(training.steps_done, f"that of step {training.steps_done}")
    if checkpoints is not None and saved is None:
        checkpoints.save(training.pack())
    return training


def decide(
    net: nn.Module,
    batches: Batches,
    validate: Validate,
    steps: torch.optim.Optimizer,
    *,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    config: TrainConfig,
    class_weights: Tensor | None,
    on_rates: Callable[[RateTest], None],
    stop: Callable[[], bool],
    ranks: Ranks,
) -> tuple[Plan, float]:
    """By trying on copies of `net`: the peak rate, which `steps` gets, and the plan. With the seconds that took, which
    are part of the run where it has to fit into minutes."""
    began, speed = time.monotonic(), None
    if optimizer.lr == "auto":
        test = try_rates(
            net, batches, optimizer=optimizer, config=config, class_weights=class_weights, stop=stop, ranks=ranks
        )
        set_peak(steps, test.chosen)
        on_rates(test)
    if config.max_minutes is not None:
        speed = measure_speed(
            net, batches, validate, optimizer=optimizer, config=config, stop=stop, ranks=ranks, began=began
        )
    plan = make_plan(config, steps_per_epoch=batches.steps_per_epoch, schedule=schedule, speed=speed)
    return plan, speed.took_s if speed else 0.0


def train_epoch(
    training: Training,
    batches: Batches,
    *,
    schedule: ScheduleConfig,
    config: TrainConfig,
    class_weights: Tensor | None,
    pulse: Callable[[], None],
    rank: int = 0,
) -> None:
    """The rest of the epoch."""
    training.net.train()
    began = time.monotonic() - training.epoch_s
    figures = [monitored(record, config) for record in training.history]
    done = behind(training.epoch, training.plan.epochs)
    stream = batches.epoch(training.epoch, start_step=training.step, done=done)
    average = averaging(training, config)
    while training.step < training.plan.steps_in(training.epoch):  # which a revision may change
        pixels, targets = next(stream)
        total_steps = training.plan.total_steps
        share = factor(training.steps_done, total_steps=total_steps, config=schedule, figures=figures)
        set_rate(training.optimizer, share)
        seed(pixels.device, dropout_seed(config.seed, training.epoch, training.step, rank=rank))
        training.sums += train_step(
            training.spread, training.optimizer, pixels, targets, config=config, class_weights=class_weights
        )
        if average is not None:
            average.update(step=training.steps_done)
        training.step += 1
        training.images += len(pixels)
        training.epoch_s = time.monotonic() - began
        pulse()
    check_finite(training)  # waits for a GPU to finish the epoch
    training.epoch_s = time.monotonic() - began


def revise_plan(training: Training, *, config: TrainConfig, schedule: ScheduleConfig, ranks: Ranks) -> None:
    """By the seconds of rank 0: all ranks must take the same steps."""
    took_s = ranks.first((training.total_s,))[0]
    done = training.steps_done
    training.plan = revised(
        training.plan, config, steps_done=done, epochs_done=training.epoch, took_s=took_s, schedule=schedule
    )
    training.stop = replace(training.stop, patience=training.plan.patience)


def judge_epoch(training: Training, validate: Validate) -> EpochRecord:
    """Validate, and write down the epoch."""
    began = time.monotonic()
    validation = validate(training.judged)
    if not math.isfinite(validation.loss):
        raise diverged(training)
    loss, norm, *norms = (training.sums / training.step).tolist()
    return EpochRecord(
        epoch=training.epoch,
        step=training.steps_done,
        lr=training.optimizer.param_groups[0]["lr"],
        train_loss=loss,
        val_loss=validation.loss,
        val_accuracy=validation.accuracy,
        grad_norm=norm,
        grad_norm_by_layer=by_layer(training.net, optimized(training.optimizer), norms),
        seconds=training.epoch_s + time.monotonic() - began,
        images_per_s=training.images / max(training.epoch_s, 1e-9),
    )
