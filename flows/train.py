"""The stage that trains, watched in the UI, in the log and at the terminal."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import artifacts
from flows.console import display, duration, epoch_line
from flows.pages import percent
from flows.prepare import Prepared, opened
from models.config import Experiment
from models.records import EpochRecord, FitSummary
from models.run import RunFolder

if TYPE_CHECKING:
    from models.training.pulse import ProgressUpdate

LOG_EVERY_S = 5.0


@dataclass
class Watch:
    """Passes on what `fit` tells, each listener at its own pace."""

    bar: artifacts.Progress
    epochs: int = 0
    best: float = float("-inf")
    log_due: artifacts.Pace = field(default_factory=lambda: artifacts.Pace(LOG_EVERY_S))

    def progress(self, update: "ProgressUpdate") -> None:
        self.epochs = update.epochs
        words = (
            f"epoch {update.epoch + 1} of {update.epochs}  loss {update.train_loss:.3f}  "
            f"{update.images_per_s:,.0f} images/s  {duration(update.seconds_left)} left"
        )
        display().moved(words, update.step, update.total_steps)
        self.bar.moved(update.step / max(update.total_steps, 1), words)

    def choice(self, said: str) -> None:
        display().note(said)
        get_run_logger().info("%s", said)

    def epoch(self, record: EpochRecord) -> None:
        best = record.val_accuracy > self.best
        self.best = max(self.best, record.val_accuracy)
        display().epoch(record, self.epochs, best=best)
        if self.log_due() or record.epoch + 1 == self.epochs:
            get_run_logger().info("%s", epoch_line(record, self.epochs))


@task(name="train", task_run_name="train", cache_policy=NO_CACHE, persist_result=False)
def train(experiment: Experiment, prepared: Prepared, folder: Path) -> FitSummary:
    """Train to the best weights, going on from the checkpoint of a run that was killed."""
    from models.training import learn  # torch: seconds

    run = RunFolder(folder)
    with display().stage("train"), artifacts.progress("training-progress") as bar:
        watch = Watch(bar)
        fit = learn.learn(
            experiment,
            opened(prepared),
            run,
            on_epoch=watch.epoch,
            on_progress=watch.progress,
            on_choice=watch.choice,
        )
        early = ", stopped early" if fit.stopped_early else ""
        said = (
            f"{fit.epochs_run} epochs{early}, best {fit.best_epoch + 1}; "
            f"{fit.parameters:,} parameters on {fit.device}, {speed_of(fit)}"
        )
        bar.moved(1.0, said)
        display().say(said)
        get_run_logger().info("trained: %s", said)
    return fit


def speed_of(fit: FitSummary) -> str:
    """418 images/s; 52,000 images/s, 31.5 % of its bfloat16 peak."""
    share = "" if fit.utilisation is None else f", {percent(fit.utilisation)} of its bfloat16 peak"
    return f"{fit.images_per_s:,.0f} images/s{share}"
