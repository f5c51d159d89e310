"""The stage that asks how much the accuracy depends on which pictures were trained on."""

from collections.abc import Callable
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import artifacts
from flows.console import display
from flows.pages import percent
from flows.prepare import Prepared, opened
from flows.stopping import stoppable
from models.config import Experiment
from models.records import CVResult, FoldResult
from models.run import RunFolder
from models.training.folds import ended_folds


@task(name="cross-validate", task_run_name="cross-validate", cache_policy=NO_CACHE, persist_result=False)
def cross_validate(experiment: Experiment, prepared: Prepared, folder: Path) -> CVResult:
    """One training per fold, except for the folds that a killed or stopped run had ended; the test pictures are not
    looked at."""
    from models.training import cross_validate as folds  # torch: seconds
    from models.training.pulse import Stopped

    run, total, dataset = RunFolder(folder), experiment.crossval.folds, opened(prepared)
    with display().stage("cross-validate"), artifacts.progress("cross-validation-progress") as bar:

        def heard(fold: FoldResult) -> None:
            words = f"fold {fold.fold + 1} of {total}: {percent(fold.accuracy)} of {fold.n:,}"
            display().note(words)
            display().moved(words, fold.fold + 1, total)
            bar.moved((fold.fold + 1) / total, words)
            get_run_logger().info("%s in %.1f s", words, fold.seconds)

        def work(stop: Callable[[], bool]) -> CVResult:
            try:
                return folds.cross_validate(experiment, dataset, run, on_fold=heard, on_trouble=trouble, stop=stop)
            except Stopped as stopped:
                done = len(ended_folds(run))
                display().say(f"stopped in fold {done + 1} of {total}, {stopped}; {done} are done and kept")
                raise

        if before := len(ended_folds(run)):
            display().note(f"going on with run {run.run_id} after {before} of {total} folds")
        result = stoppable(work, on_stop=stopping)
        display().say(f"{percent(result.mean)} ± {100 * result.std:.1f} over {total} folds")
        artifacts.show_crossval(result)
    return result


def trouble(sentence: str) -> None:
    display().note(sentence, style="yellow")
    get_run_logger().warning("%s", sentence)


def stopping() -> None:
    display().note("stopping: the folds that have ended are kept; once more ends at once", style="yellow")
