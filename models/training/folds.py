"""folds.jsonl in a run folder: the folds of a cross-validation that have ended, which a run that goes on does not train
again. No torch here."""

from collections.abc import Callable, Sequence

from data import whole
from models.records import FoldResult
from models.run import RunFolder

FILE = "folds.jsonl"


def ended_folds(folder: RunFolder) -> tuple[FoldResult, ...]:
    """In their order, without gaps; empty before the first has ended."""
    file = folder.path / FILE
    lines = file.read_text().splitlines() if file.exists() else []
    return tuple(FoldResult.model_validate_json(line) for line in lines)


def keep_folds(folder: RunFolder, results: Sequence[FoldResult], on_trouble: Callable[[str], None]) -> None:
    """All that have ended so far. A full disk costs no training: the next fold tries again."""
    lines = "".join(f"{result.model_dump_json()}\n" for result in results)
    try:
        whole.write(folder.path / FILE, lines.encode())
    except OSError as error:
        on_trouble(
            f"fold {len(results)} could not be written down in {folder.path} ({error.strerror or error}); the next one "
            "tries again, but make room, or a kill will cost the time since then"
        )
