"""folds/ in a run folder: the folds of a cross-validation that have ended, a file each. A run that goes on does not
train them again, whoever trained them and in whatever order. No torch here."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from data import whole
from models.records import CVResult, FoldResult
from models.run import RunFolder

FOLDER = "folds"
BEFORE = "folds.jsonl"  # of runs that were begun before each fold had a file


def ended_folds(folder: RunFolder) -> tuple[FoldResult, ...]:
    """In the order of their numbers, which may have gaps where folds are trained beside each other."""
    before = folder.path / BEFORE
    lines: list[str | bytes] = list(before.read_text().splitlines()) if before.exists() else []
    lines += [file.read_bytes() for file in (folder.path / FOLDER).glob("[0-9]*.json")]
    ended = {result.fold: result for result in map(FoldResult.model_validate_json, lines)}
    return tuple(ended[fold] for fold in sorted(ended))


def begun_folds(folder: RunFolder) -> bool:
    """Whether a fold has ended or could be gone on with."""
    return bool(ended_folds(folder)) or any((folder.path / FOLDER).glob("*/checkpoint/*.pt"))


def fold_file(folder: RunFolder, fold: int) -> Path:
    return folder.path / FOLDER / f"{fold}.json"


def fold_folder(folder: RunFolder, fold: int) -> RunFolder:
    """What a fold leaves while it trains: its checkpoint, its batch size, how far it is; gone once it has ended."""
    return RunFolder(folder.path / FOLDER / str(fold))


def keep_folds(folder: RunFolder, results: Sequence[FoldResult], on_trouble: Callable[[str], None]) -> None:
    """Those that are not there yet. A full disk costs no training: the next fold tries again."""
    try:
        for result in results:
            if not fold_file(folder, result.fold).exists():
                whole.write(fold_file(folder, result.fold), (result.model_dump_json() + "\n").encode())
            shutil.rmtree(fold_folder(folder, result.fold).path, ignore_errors=True)
    except OSError as error:
        on_trouble(
            f"fold {results[-1].fold + 1} could not be written down in {folder.path} ({error.strerror or error}); the "
            "next one tries again, but make room, or a kill will cost the time since then"
        )


def summarise(results: Iterable[FoldResult]) -> CVResult:
    """At least two folds."""
    ordered = sorted(results, key=lambda result: result.fold)
    accuracies = [result.accuracy for result in ordered]
    return CVResult(folds=tuple(ordered), mean=float(np.mean(accuracies)), std=float(np.std(accuracies, ddof=1)))
