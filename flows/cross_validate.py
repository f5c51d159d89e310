"""The stage that asks how much the accuracy depends on which pictures were trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import artifacts, slots
from flows.console import display, duration
from flows.engines import RunnerConfig
from flows.prepare import Prepared, opened
from flows.reuse.stage import reused
from flows.reuse.states import valued
from flows.stopping import stoppable
from flows.suspects import look_at_labels
from models.config import Experiment
from models.evaluation import labels
from models.evaluation.percent import percent
from models.records import CVResult, FoldResult
from models.run import RunFolder
from models.training.folds import ended_folds, summarise
from models.training.told import ProgressUpdate, Stopped


@dataclass
class Watch:
    """Tells in the UI, in the log and at the terminal how far the folds are."""

    bar: artifacts.Progress
    total: int
    done: int = 0

    def fold(self, result: FoldResult) -> None:
        self.done += 1
        words = f"fold {result.fold + 1} of {self.total}: {percent(result.accuracy)} of {result.n:,}"
        display().note(words)
        self._moved(0.0, words)
        get_run_logger().info("%s in %.1f s", words, result.seconds)

    def under_way(self, told: Mapping[int, ProgressUpdate | None]) -> None:
        """By fold, from 0, what is known of it."""
        known = {fold: update for fold, update in told.items() if update is not None}
        if not known:
            return
        words = ", ".join(f"fold {fold + 1} epoch {known[fold].epoch + 1} of {known[fold].epochs}" for fold in known)
        left = max(update.seconds_left for update in known.values())
        share = sum(update.step / max(update.total_steps, 1) for update in known.values())
        self._moved(share, f"{self.done} of {self.total} folds; {words}; {duration(left)} left of what is under way")

    def _moved(self, share: float, words: str) -> None:
        display().moved(words, self.done + share, self.total)
        self.bar.moved((self.done + share) / self.total, words)

    def trouble(self, sentence: str) -> None:
        display().note(sentence, style="yellow")
        get_run_logger().warning("%s", sentence)

    def stopping(self) -> None:
        display().note("stopping: the folds that have ended are kept; once more ends at once", style="yellow")


@valued
@task(name="cross-validate", task_run_name="cross-validate", cache_policy=NO_CACHE, persist_result=False)
def cross_validate(
    experiment: Experiment,
    prepared: Prepared,
    folder: Path,
    runner: RunnerConfig = RunnerConfig(),  # noqa: B008 - frozen
) -> CVResult:
    """One training per fold, except for the folds that a killed or stopped run had ended, or that another run made of
    the same; the test pictures are not looked at."""
    run, total = RunFolder(folder), experiment.crossval.folds
    with (
        display().stage("cross-validate"),
        artifacts.progress("cross-validation-progress") as bar,
        reused("cross-validate", folder, prepared, settle=partial(complete, total)) as found,
    ):
        watch = Watch(bar, total, done=len(ended_folds(run)))
        if watch.done == total:
            result = summarise(ended_folds(run))
        else:
            work = one_by_one if runner.kind == "plain" else partial(beside_each_other, runner=runner)
            if watch.done:
                display().note(f"going on with run {run.run_id} after {watch.done} of {total} folds")
            result = stoppable(partial(work, experiment, prepared, run, watch), on_stop=watch.stopping)
        said = found.told(f"{percent(result.mean)} ± {100 * result.std:.1f} over {total} folds")
        bar.moved(1.0, said)
        display().say(said)
        artifacts.show_crossval(result)
        look_at_labels(run, prepared, labels.of_folds, before_training=True)
    return found.returned(result, "the folds")


def complete(total: int, run: RunFolder) -> None:
    """Raises `ValueError` unless all folds are in the folder."""
    if len(ended_folds(run)) != total:
        raise ValueError(f"{run.path} does not hold {total} folds")


def one_by_one(
    experiment: Experiment, prepared: Prepared, run: RunFolder, watch: Watch, stop: Callable[[], bool]
) -> CVResult:
    from models.training import cross_validate as folds  # torch: seconds

    try:
        with slots.place_for(experiment, on_wait=display().note, stop=stop) as compute_there:
            compute_there()
            return folds.cross_validate(
                experiment,
                opened(prepared),
                run,
                on_fold=watch.fold,
                on_progress=lambda fold, update: watch.under_way({fold: update}),
                on_trouble=watch.trouble,
                stop=stop,
            )
    except Stopped as stopped:
        done = len(ended_folds(run))
        display().say(f"stopped in fold {done + 1} of {watch.total}, {stopped}; {done} are done and kept")
        raise


def beside_each_other(
    experiment: Experiment,
    prepared: Prepared,
    run: RunFolder,
    watch: Watch,
    stop: Callable[[], bool],
    *,
    runner: RunnerConfig,
) -> CVResult:
    import torch  # as the plain loop would be in this process, so that the same sums come out

    from flows.folding import shared_out
    from models.device import choose_device

    opened(prepared)  # or raises what every fold would
    if experiment.train.max_minutes is not None:
        watch.trouble(
            "train.max_minutes fits the epochs of a fold to its speed, and folds beside each other slow each other "
            "down: they may end with other figures than one after the other"
        )
    threads, gpus = torch.get_num_threads(), torch.cuda.device_count()
    kind = "cpu" if choose_device(experiment.train.devices).type == "cpu" else "gpu"
    try:
        return shared_out(run, watch.total, runner, threads=threads, kind=kind, gpus=gpus, watch=watch, stop=stop)
    except Stopped as stopped:
        display().say(f"stopped {stopped}; they are kept")
        raise
