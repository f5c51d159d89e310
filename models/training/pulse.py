"""What happens now and then while a network trains: look at the loss, tell how far it is, save."""

import math
import time
from collections.abc import Callable

from data.errors import RunFailed
from models.training.checkpoint import Checkpoints
from models.training.optim import peak_of
from models.training.state import Training
from models.training.told import ProgressUpdate as ProgressUpdate
from models.training.told import Stopped as Stopped

PULSE_S = 0.25  # how often progress is told; looking at the loss makes a GPU wait


class Diverged(RunFailed):
    """The loss is no longer a number: a smaller step is needed."""


def never() -> bool:
    """Nobody asks for a stop."""
    return False


def heed(stop: Callable[[], bool], *, during: str) -> None:
    """Raises `Stopped` where that was asked for while something is tried, before there is anything to save."""
    if stop():
        raise Stopped(f"before the first step, during {during}")


def nothing() -> None:
    """Done where there is nothing to do."""


class Pulse:
    """What happens now and then within an epoch: look at the loss, tell how far it is, save."""

    def __init__(
        self,
        training: Training,
        checkpoints: Checkpoints | None,
        on_progress: Callable[[ProgressUpdate], None],
        stop: Callable[[], bool] = never,
        revise: Callable[[], None] = nothing,
    ) -> None:
        """`revise` is called with `total_s` up to date, where the plan is due to be revised."""
        self._training, self._checkpoints, self._on_progress = training, checkpoints, on_progress
        self._stop, self._revise = stop, revise
        self._began = time.monotonic() - training.total_s
        self._told = -math.inf

    def __call__(self) -> None:
        """After every step. Raises `Stopped` where that was asked for."""
        if self._stop():
            self.save()
            raise Stopped(place_of(self._training))
        due = self._training.plan.revise_at
        if due is not None and self._training.steps_done >= due:  # later where it was stopped at that very step
            check_finite(self._training)  # waits for a GPU
            self._training.total_s = time.monotonic() - self._began
            self._revise()
        if self._checkpoints is not None and self._checkpoints.due(self._training.steps_done):
            self.save()
        now = time.monotonic()
        if now - self._told >= PULSE_S:
            self._told = now
            self._training.total_s = now - self._began
            check_finite(self._training)
            self._on_progress(progress_of(self._training))

    def end_epoch(self) -> None:
        """The end of the run is always saved, that of a short epoch only now and then."""
        training, checkpoints = self._training, self._checkpoints
        if training.finished or checkpoints is None or checkpoints.due(training.steps_done, epoch_ended=True):
            self.save()

    def save(self) -> None:
        self._training.total_s = time.monotonic() - self._began
        if self._checkpoints is not None:
            check_finite(self._training)  # or a resumed run would start from what cannot be mended
            self._checkpoints.save(self._training.pack())


def check_finite(training: Training) -> None:
    """Once a loss or gradient is not finite the epoch's sums stay so: looking now and then misses none."""
    if not bool(training.sums.isfinite().all()):
        raise diverged(training)


def diverged(training: Training) -> Diverged:
    peak = peak_of(training.optimizer)
    return Diverged(
        f"the loss was no longer finite in epoch {training.epoch + 1}, by step {training.steps_done}, with "
        f"optimizer.lr {peak:.3g}; use a lower one, such as {peak / 10:.1g}, or a longer schedule.warmup"
    )


def place_of(training: Training) -> str:
    """Where a run stands, in words."""
    plan = training.plan
    return f"after step {training.steps_done:,} of {plan.total_steps:,}, in epoch {training.epoch + 1} of {plan.epochs}"


def progress_of(training: Training) -> ProgressUpdate:
    plan, done = training.plan, training.steps_done
    return ProgressUpdate(
        epoch=training.epoch,
        epochs=plan.epochs,
        step=done,
        total_steps=plan.total_steps,
        train_loss=float(training.sums[0]) / training.step,
        images_per_s=training.images / max(training.epoch_s, 1e-9),
        seconds_left=training.total_s / done * (plan.total_steps - done),
    )
