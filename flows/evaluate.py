"""The stage that looks at the test pictures, once, after every choice is made; and the report."""

from functools import partial
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from flows import artifacts
from flows.console import display
from flows.prepare import Prepared, opened
from flows.reuse.stage import reused
from flows.reuse.states import valued
from flows.suspects import look_at_labels
from models.evaluation import labels
from models.evaluation.percent import percent
from models.records import CVResult, Lineage, RunResult
from models.run import RunFolder


def moved(what: str, done: int = 0, total: int = 0) -> None:
    display().moved(f"{what} {done:,} of {total:,}" if total else what, done, total)


@valued
@task(name="evaluate", task_run_name="evaluate", cache_policy=NO_CACHE, persist_result=False)
def evaluate(prepared: Prepared, folder: Path, crossval: CVResult | None, lineage: Lineage) -> RunResult:
    """Metrics with intervals, calibration, predictions, report. A run that has them keeps them, and takes over those
    that another run made of the same."""
    from models.evaluation import evaluate as judge  # torch: seconds
    from models.evaluation import plots, report
    from models.evaluation.diagnosis.evidence import evidence

    run, dataset = RunFolder(folder), opened(prepared)
    with (
        display().stage("evaluate"),
        reused("evaluate", folder, prepared, settle=partial(renamed, run, lineage)) as found,
    ):
        if run.finished:
            result = run.result()
        else:
            result = judge.evaluate(run, dataset, crossval=crossval, lineage=lineage, progress=moved)
        test = result.test
        interval = f"{percent(test.interval.low)} to {percent(test.interval.high)}"
        said = f"{percent(test.accuracy)} of {test.n:,} test pictures ({interval})"
        display().say(found.told(said))
        get_run_logger().info("evaluated: %s", found.told(said))
        moved("looking at the labels")
        doubted = look_at_labels(run, prepared, labels.of_the_run)
        moved("writing the report")
        page = report.write(run, dataset, doubted)
        artifacts.show_metrics(result)
        artifacts.show_picture(
            "confusion-matrix", "Test pictures: true class by answer", lambda: plots.confusion(test, fmt="png")
        )
        artifacts.show_sureness(run)
        artifacts.show_mistakes(run, dataset)
        artifacts.show_picture(
            "curves",
            "Learning curves",
            lambda: plots.learning_curves(run.history(), best_epoch=result.fit.best_epoch, fmt="png"),
        )
        artifacts.show_diagnosis(evidence(run))
        artifacts.show_report(page)
    return found.returned(result, "the figures")


def renamed(run: RunFolder, lineage: Lineage, taken: RunFolder) -> None:
    """The figures of another run become those of this one, under its name and with its settings; they are equal where
    it counts."""
    here = {"run_id": run.run_id, "experiment": run.experiment(), "lineage": lineage}
    taken.write_result(taken.result().model_copy(update=here))
