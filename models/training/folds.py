"""folds/ in a run folder: the folds of a cross-validation that have ended, two files each: what it answered to the
pictures that it was not trained on, and the figures. A run that goes on does not train them again, whoever trained them
and in whatever order. No torch here."""

import io
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import whole
from models.records import CVResult, FoldResult
from models.run import RunFolder

FOLDER = "folds"


@dataclass(frozen=True)
class HeldOut:
    """Answers to pictures that were not trained on."""

    rows: np.ndarray  # (n,) int64, of the `Images`
    logits: np.ndarray  # (n, classes) float32


def ended_folds(folder: RunFolder) -> tuple[FoldResult, ...]:
    """In the order of their numbers, which may have gaps where folds are trained beside each other."""
    files = [file for file in (folder.path / FOLDER).glob("[0-9]*.json") if has_ended(folder, int(file.stem))]
    results = [FoldResult.model_validate_json(file.read_bytes()) for file in files]
    return tuple(sorted(results, key=lambda result: result.fold))


def has_ended(folder: RunFolder, fold: int) -> bool:
    """One without its answers, as versions before left them, is trained again."""
    return fold_file(folder, fold).exists() and zipfile.is_zipfile(answers_file(folder, fold))


def held_out(folder: RunFolder) -> HeldOut:
    """Of all folds that have ended, at least one, in their order. Raises `OSError`, `ValueError`, `BadZipFile`."""
    found = []
    for result in ended_folds(folder):
        with np.load(answers_file(folder, result.fold), allow_pickle=False) as arrays:
            found.append(HeldOut(arrays["rows"], arrays["logits"]))
    return HeldOut(np.concatenate([one.rows for one in found]), np.concatenate([one.logits for one in found]))


def begun_folds(folder: RunFolder) -> bool:
    """Whether a fold has ended or could be gone on with."""
    return bool(ended_folds(folder)) or any((folder.path / FOLDER).glob("*/checkpoint/*.pt"))


def fold_file(folder: RunFolder, fold: int) -> Path:
    return folder.path / FOLDER / f"{fold}.json"


def answers_file(folder: RunFolder, fold: int) -> Path:
    return folder.path / FOLDER / f"{fold}.npz"


def fold_folder(folder: RunFolder, fold: int) -> RunFolder:
    """What a fold leaves while it trains: its checkpoint, its batch size, how far it is; gone once it has ended."""
    return RunFolder(folder.path / FOLDER / str(fold))


def keep_folds(
    folder: RunFolder,
    results: Sequence[FoldResult],
    answers: Mapping[int, HeldOut],
    on_trouble: Callable[[str], None],
) -> None:
    """Those that are not there yet and whose answers are given. A full disk costs no training: the next fold tries
    again, and a fold that cannot be written keeps its checkpoint."""
    try:
        for result in results:
            if not has_ended(folder, result.fold):
                if result.fold not in answers:
                    continue
                _write_answers(answers_file(folder, result.fold), answers[result.fold])
                whole.write(fold_file(folder, result.fold), (result.model_dump_json() + "\n").encode())
            shutil.rmtree(fold_folder(folder, result.fold).path, ignore_errors=True)
    except OSError as error:
        on_trouble(
            f"fold {results[-1].fold + 1} could not be written down in {folder.path} ({error.strerror or error}); make "
            "room, or a run that goes on has to train it again from its last checkpoint"
        )


def _write_answers(file: Path, answers: HeldOut) -> None:
    content = io.BytesIO()
    np.savez(content, rows=answers.rows, logits=answers.logits)
    whole.write(file, content.getvalue())


def summarise(results: Iterable[FoldResult]) -> CVResult:
    """At least two folds."""
    ordered = sorted(results, key=lambda result: result.fold)
    accuracies = [result.accuracy for result in ordered]
    return CVResult(folds=tuple(ordered), mean=float(np.mean(accuracies)), std=float(np.std(accuracies, ddof=1)))
