"""stages.json in a run folder: which stages ended there, by which keys, with which files; and how another run takes
them over. begun.json: by which keys they were begun. No torch and no Prefect here.

Files are linked, not copied, where the disk allows it: none of them is ever changed in place. They are looked through
before they count, so that a run that lost one, or whose disk did, is no source.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from data import whole
from data.spec import Frozen
from flows.reuse.stages import Stage
from models.run import RunFolder

FILE = "stages.json"
BEGUN = "begun.json"

FILES: dict[Stage, tuple[str, ...]] = {
    "cross-validate": ("folds/*.json", "folds/*.npz"),
    "train": ("network.json", "lr_range.json", "batch_size.json", "history.jsonl", "weights.safetensors", "fit.json"),
    "evaluate": ("predictions.npz", "run.json"),
    "export": ("bundle/**/*",),
}
ALONG: dict[Stage, tuple[str, ...]] = {"train": ("tensorboard/*",)}  # if they are there
LAST = {"fit.json", "run.json"}  # their presence says that a stage has ended


class Record(Frozen):
    """One stage of a run."""

    key: str
    run: str  # that made it
    files: dict[str, str]  # below the run folder -> sha256


RECORDS = TypeAdapter(dict[Stage, Record])
KEYS = TypeAdapter(dict[Stage, str])


def read(folder: Path) -> dict[Stage, Record]:
    """Empty where nothing is written down, or nothing that this version understands."""
    try:
        return RECORDS.validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return {}


def begin(stage: Stage, run: RunFolder, key: str) -> None:
    """As what a stage is begun. It may be gone on with by another version of the program, on another device or from
    other weights, and what comes of that is nobody's else."""
    with suppress(OSError):  # a full disk; then it is not offered to others
        whole.write(run.path / BEGUN, KEYS.dump_json({**begun_as(run), stage: key}) + b"\n")


def begun_as(run: RunFolder) -> dict[Stage, str]:
    try:
        return KEYS.validate_json((run.path / BEGUN).read_bytes())
    except (OSError, ValidationError):
        return {}


def write_down(stage: Stage, run: RunFolder, key: str, *, made_by: str) -> None:
    """Raises `OSError` for a disk that is full."""
    names = [path.relative_to(run.path).as_posix() for path in _files(run.path, FILES[stage])]
    record = Record(key=key, run=made_by, files={name: _sha256(run.path / name) for name in names})
    after = {**read(run.path), stage: record}
    whole.write(run.path / FILE, RECORDS.dump_json(after, indent=1) + b"\n")


def here(stage: Stage, run: RunFolder, key: str) -> str | None:
    """The run that made what lies in this folder: itself, before it was interrupted, or one that it took it from."""
    record = read(run.path).get(stage)
    if record is None or record.key != key or not all((run.path / name).exists() for name in record.files):
        return None
    return record.run


def take_over(stage: Stage, run: RunFolder, key: str, home: Path, settle: Callable[[RunFolder], object]) -> str | None:
    """The run that made it, of the newest that can be taken over; None if there is none. `settle` is given the files
    in a folder of their own, to change them or to refuse them by a `ValueError`."""
    for source in sources(home):
        record = read(source).get(stage) if source != run.path else None
        if record is not None and record.key == key and _adopt(stage, run, source, record, settle):
            with suppress(OSError):  # a full disk; it is found again, and costs a link
                write_down(stage, run, key, made_by=record.run)
            return record.run
    return None


def sources(home: Path) -> Iterator[Path]:
    """Folders of runs, and of the trials of sweeps, the one that was written to last before the others."""
    found = [*home.glob(f"runs/[0-9]*/{FILE}"), *home.glob(f"trials/*/{FILE}")]
    yield from (file.parent for file in sorted(found, key=_changed, reverse=True))


def _adopt(stage: Stage, run: RunFolder, source: Path, record: Record, settle: Callable[[RunFolder], object]) -> bool:
    part = run.path / f".{stage}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name, digest in record.files.items():
            _link(source / name, part / name)
            if _sha256(part / name) != digest:
                return False
        for path in _files(source, ALONG.get(stage, ())):
            _link(path, part / path.relative_to(source))
        settle(RunFolder(part))
        for path in sorted(part.iterdir(), key=lambda path: path.name in LAST):
            _put(path, run.path / path.name)
    except (OSError, ValueError):  # gone meanwhile, or of another version
        return False
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return True


def _put(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)  # left by a kill: a folder cannot be renamed over another
    path.replace(target)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, one without links, or somebody else's file
        shutil.copyfile(source, target)


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
