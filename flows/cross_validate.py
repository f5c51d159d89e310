"""The stage that asks how much the accuracy depends on which pictures were trained on."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import artifacts
from flows.console import display
from flows.pages import percent
from flows.prepare import Prepared, opened
from models.config import Experiment
from models.records import CVResult, FoldResult


@task(name="cross-validate", task_run_name="cross-validate", cache_policy=NO_CACHE, persist_result=False)
def cross_validate(experiment: Experiment, prepared: Prepared) -> CVResult:
    """One training per fold; the test pictures are not looked at."""
    from models.training import cross_validate as folds  # torch: seconds

    total = experiment.crossval.folds
    with display().stage("cross-validate"), artifacts.progress("cross-validation-progress") as bar:

        def heard(fold: FoldResult) -> None:
            words = f"fold {fold.fold + 1} of {total}: {percent(fold.accuracy)} of {fold.n:,}"
            display().note(words)
            display().moved(words, fold.fold + 1, total)
            bar.moved((fold.fold + 1) / total, words)
            get_run_logger().info("%s in %.1f s", words, fold.seconds)

        result = folds.cross_validate(experiment, opened(prepared), on_fold=heard)
        display().say(f"{percent(result.mean)} ± {100 * result.std:.1f} over {total} folds")
        artifacts.show_crossval(result)
    return result
