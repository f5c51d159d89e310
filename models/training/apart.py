"""A fold or a training in a process of its own, from the side of the process that waits for it. No torch here."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.records import FitSummary, FoldResult
from models.run import RunFolder
from models.training.children import Heard, environment, lines_of, started
from models.training.folds import fold_folder
from models.training.told import FOLLOW, ProgressUpdate

PROGRESS = "progress.json"  # how far it is, for whoever looks into the folder


def fold(
    folder: RunFolder,
    index: int,
    *,
    threads: int,
    cwd: Path,
    gpus: Sequence[str] = (),
    on_trouble: Callable[[str], None],
    stop: Callable[[], bool],
) -> FoldResult:
    """Raises as `one_fold`, `RunFailed` for what the process did not foresee, and `Lost` where it is gone."""
    own = fold_folder(folder, index).path
    own.mkdir(parents=True, exist_ok=True)
    told: list[FoldResult] = []
    listeners: dict[str, Callable[[Any], object]] = {
        "fold": lambda result: told.append(FoldResult.model_validate(result)),
        "progress": lambda update: leave_progress(own, update),
        "trouble": on_trouble,
    }
    command = [sys.executable, "-m", "models.training.fold", str(folder.path), str(index), FOLLOW]
    log = folder.path / f"fold-{index + 1}.log"
    with log.open("ab") as errors, started(command, alike(threads, gpus), errors, cwd=cwd) as process:
        heard = Heard(errors, listeners)
        for line in lines_of(process, stop):
            heard(line)
    if not told:
        heard.judge(process.returncode, f"the process that trained fold {index + 1}", log)
    drop_empty(log)
    return told[0]


def training(
    folder: RunFolder,
    *,
    threads: int,
    cwd: Path,
    gpus: Sequence[str] = (),
    on_trouble: Callable[[str], None],
    stop: Callable[[], bool],
) -> FitSummary:
    """As `learn`, and raises as `fold`."""
    listeners: dict[str, Callable[[Any], object]] = {
        "progress": lambda update: leave_progress(folder.path, update),
        "trouble": on_trouble,
    }
    command = [sys.executable, "-m", "models.training.alone", str(folder.path), FOLLOW]
    log = folder.path / "alone.log"
    with log.open("ab") as errors, started(command, alike(threads, gpus), errors, cwd=cwd) as process:
        heard = Heard(errors, listeners)
        for line in lines_of(process, stop):
            heard(line)
    if not folder.learned:
        heard.judge(process.returncode, f"the process that trained {folder.run_id}", log)
    drop_empty(log)
    return folder.fit()


def alike(threads: int, gpus: Sequence[str]) -> dict[str, str]:
    """With as many threads as whoever compares the results, since sums depend on them; a cluster's workers are often
    told to use one. Of the GPUs those, unless none is named."""
    dropped = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    kept = {name: value for name, value in environment(threads=threads).items() if name not in dropped}
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    return {"GOMP_SPINCOUNT": "2000", **kept, "OMP_NUM_THREADS": str(threads), **seen}


def leave_progress(folder: Path, update: dict[str, Any]) -> None:
    """Not synced: it is out of date in a moment, and a full disk is no reason to stop."""
    part = folder / f".{PROGRESS}.part"
    try:
        part.write_text(json.dumps(update))
        part.replace(folder / PROGRESS)
    except OSError:
        return


def left_progress(folder: Path) -> ProgressUpdate | None:
    """What was told last; None where nothing is under way."""
    try:
        return ProgressUpdate(**json.loads((folder / PROGRESS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def drop_empty(log: Path) -> None:
    if log.stat().st_size == 0:
        log.unlink()
