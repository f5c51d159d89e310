"""The stage that trains, watched in the UI, in the log and at the terminal."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from data.prepare import Dataset
from flows import artifacts, slots
from flows.console import display, duration, epoch_line, going_on
from flows.prepare import Prepared, opened
from flows.reuse.stage import reused
from flows.reuse.states import valued
from flows.stopping import stoppable
from models.config import Experiment, TrainConfig
from models.evaluation.percent import percent
from models.records import EpochRecord, FitSummary
from models.run import RunFolder
from models.training.early_stop import best_so_far

if TYPE_CHECKING:
    from models.training.pulse import ProgressUpdate

LOG_EVERY_S = 5.0


@dataclass
class Watch:
    """Passes on what `fit` tells, each listener at its own pace."""

    bar: artifacts.Progress
    config: TrainConfig
    run_id: str = ""
    told: tuple[EpochRecord, ...] = ()  # also by the processes before this one
    epochs: int = 0  # 0 until something has been told
    log_due: artifacts.Pace = field(default_factory=lambda: artifacts.Pace(LOG_EVERY_S))

    def progress(self, update: "ProgressUpdate") -> None:
        if self.epochs == 0 and (said := going_on(self.run_id, update)) is not None:
            self.choice(said)
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

    def trouble(self, sentence: str) -> None:
        display().note(sentence, style="yellow")
        get_run_logger().warning("%s", sentence)

    def stopping(self) -> None:
        display().note("stopping: this step is finished and saved; once more ends at once", style="yellow")

    def said(self, words: str) -> None:
        """What becomes of the stage."""
        display().say(words)
        get_run_logger().info("train: %s", words)

    def epoch(self, record: EpochRecord) -> None:
        best = best_so_far(record, self.told, self.config)
        self.told = *(other for other in self.told if other.epoch < record.epoch), record
        display().epoch(record, self.epochs, best=best)
        if self.log_due() or record.epoch + 1 == self.epochs:
            get_run_logger().info("%s", epoch_line(record, self.epochs))


@valued
@task(name="train", task_run_name="train", cache_policy=NO_CACHE, persist_result=False)
def train(experiment: Experiment, prepared: Prepared, folder: Path) -> FitSummary:
    """Train to the best weights, going on from the checkpoint of a run that was killed or stopped; or take over those
    that another run made of the same."""
    run, dataset = RunFolder(folder), opened(prepared)
    with (
        display().stage("train"),
        artifacts.progress("training-progress") as bar,
        reused("train", folder, prepared, settle=partial(readable, experiment, dataset)) as found,
    ):
        watch = Watch(bar, experiment.train, run.run_id, run.history())
        fit = trained(experiment, dataset, run, watch) if found.origin is None else run.fit()
        said = found.told(summary_of(fit))
        bar.moved(1.0, said)
        watch.said(said)
    return found.returned(fit, "the weights")


def trained(experiment: Experiment, dataset: Dataset, run: RunFolder, watch: Watch) -> FitSummary:
    from models.training import launch  # torch: seconds
    from models.training.pulse import Stopped

    if run.learned:
        watch.choice(f"going on with run {run.run_id}, which is trained, with what comes after that")

    def work(stop: Callable[[], bool]) -> FitSummary:
        compute_there()
        try:
            return launch.train(
                experiment,
                dataset,
                run,
                on_epoch=watch.epoch,
                on_progress=watch.progress,
                on_choice=watch.choice,
                on_trouble=watch.trouble,
                stop=stop,
            )
        except Stopped as stopped:
            kept = f"the checkpoint is in {run.checkpoint}" if run.checkpoint.exists() else "nothing was learnt yet"
            watch.said(f"stopped {stopped}; {kept}")
            raise

    with slots.place_for(experiment, on_wait=watch.choice) as compute_there:
        return stoppable(work, on_stop=watch.stopping)


def readable(experiment: Experiment, dataset: Dataset, run: RunFolder) -> None:
    """Raises `ValueError` for a training that another version wrote down, and where these weights must not answer."""
    from models.mirror import check_mirror

    check_mirror(dataset.images.snapshot, mirror=experiment.answer.mirror)  # asked while training, which reads it not
    run.fit()
    run.network()
    run.history()


def summary_of(fit: FitSummary) -> str:
    early = ", stopped early" if fit.stopped_early else ""
    return (
        f"{fit.epochs_run} epochs{early}, best {fit.best_epoch + 1}; "
        f"{fit.parameters:,} parameters on {fit.device}, {speed_of(fit)}"
    )


def speed_of(fit: FitSummary) -> str:
    """418 images/s; 52,000 images/s, 31.5 % of its bfloat16 peak."""
    share = "" if fit.utilisation is None else f", {percent(fit.utilisation)} of its bfloat16 peak"
    return f"{fit.images_per_s:,.0f} images/s{share}"
