"""Labels that look wrong: looked for once the folds have ended, before the final training begins, and when that has
ended with its answers too. A search that fails is told, and is no reason to lose a trained model."""

from collections.abc import Callable
from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from data.errors import DataRefused
from data.gate import quarantine
from data.prepare import Dataset
from flows.artifacts import harmless
from flows.console import display
from flows.labels_page import labels_page
from flows.prepare import Prepared, opened
from models.evaluation import labels
from models.evaluation.doubtful import doubtful
from models.evaluation.labels import Suspects
from models.run import RunFolder

SHOWN = 12  # pictures: each artifact stays in the server's database for weeks


def look_at_labels(
    run: RunFolder,
    prepared: Prepared,
    search: Callable[[RunFolder, Dataset], Suspects],
    *,
    before_training: bool = False,
) -> Suspects | None:
    """What the search finds, of what no person has decided: told, shown, and written down, in the run folder and where
    a person decides. None where it failed, or is not wanted (dataset.gate.labels.level).

    before_training: raises `DataRefused` for anything that is found, where the level says so; then what fails, fails.
    """
    level = prepared.dataset.gate.labels.level
    if level == "ignore":
        return None
    dataset = opened(prepared)
    list_ = quarantine.file_of(prepared.home, dataset.images.snapshot.name)
    try:
        found = labels.undecided(search(run, dataset), quarantine.read(list_).by_digest)
        file = labels.keep(found, run)
        quarantine.update(list_, labels.lines(found), rule=labels.RULE)
    except Exception as error:
        if before_training and level == "stop":
            raise
        words = f"labels were not looked at: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        display().note(words, style="yellow")
        get_run_logger().warning("%s", words)
        return None
    words = labels.told(found) + (f"; see {file}, and decide in {list_}" if found.rows else "")
    display().note(words)
    get_run_logger().info("%s", words)
    show_labels(found, dataset, file)
    if found.rows and before_training and level == "stop":
        raise DataRefused(
            f"{labels.told(found)}, and dataset.gate.labels.level is stop; look at {file}, write keep, drop or "
            f"label=NAME for each of them into {list_}, and run it again, or set the level to warn"
        )
    return found


@harmless
def show_labels(found: Suspects, dataset: Dataset, file: Path) -> None:
    page = labels_page(found, doubtful(found, dataset, limit=SHOWN), file)
    create_markdown_artifact(page, key="labels", description=f"Labels to look at: {labels.told(found)}")
