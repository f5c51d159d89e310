"""Labels that look wrong: looked for once the folds have ended, before the final training begins, and when that has
ended with its answers too. A search that fails is told, and is no reason to lose a trained model."""

from collections.abc import Callable
from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from data.prepare import Dataset
from flows.artifacts import harmless
from flows.console import display
from flows.labels_page import labels_page
from models.evaluation import labels
from models.evaluation.doubtful import doubtful
from models.evaluation.labels import Suspects
from models.run import RunFolder

SHOWN = 12  # pictures: each artifact stays in the server's database for weeks


def look_at_labels(
    run: RunFolder, dataset: Dataset, search: Callable[[RunFolder, Dataset], Suspects]
) -> Suspects | None:
    """What the search finds, told and shown and written down; None where it failed."""
    try:
        found = search(run, dataset)
        file = labels.keep(found, run)
    except Exception as error:  # noqa: BLE001 - whatever the matter is, only this search is lost
        words = f"labels were not looked at: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        display().note(words, style="yellow")
        get_run_logger().warning("%s", words)
        return None
    words = labels.told(found) + (f"; see {file}" if found.rows else "")
    display().note(words)
    get_run_logger().info("%s", words)
    show_labels(found, dataset, file)
    return found


@harmless
def show_labels(found: Suspects, dataset: Dataset, file: Path) -> None:
    page = labels_page(found, doubtful(found, dataset, limit=SHOWN), file)
    create_markdown_artifact(page, key="labels", description=f"Labels to look at: {labels.told(found)}")
