"""All that may grow on disk, gathered into values: run folders, models, caches, archives, logs, sweeps.

Processes work in these folders meanwhile: what vanishes between two looks at it is no error.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from data import whole
from data.history import records
from flows.health.retention import Thing
from flows.home import VERDICT
from models.claims import worked_on
from models.run import RunFolder, read_fingerprint, runs
from serving import store

UNPACKED = re.compile(r".+-[0-9a-f]{12}")  # name and digest: a source that changes leaves one for each time


def things(home: Path) -> list[Thing]:
    """In no order."""
    found = [*models_and_runs(home)]
    caches = [*(home / "images").glob("[!.]*"), *taken_from_shards(home)]
    found += [Thing(kind="cache", name=str(path), bytes=size(path), used=read_at(path)) for path in caches]
    found += [half_a_cache(path) for path in (home / "images").glob(".*.part")]
    found += [unpacked(path) for path in (home / "datasets").glob("*") if UNPACKED.fullmatch(path.name)]
    found += snapshot_records(home)
    logs = (home / "logs").glob("run-*.log")
    found += [Thing(kind="log", name=str(path), bytes=size(path), used=written_at([path])) for path in logs]
    sweeps = {path: trials_of(path) for path in (home / "sweeps").glob("[!.]*") if path.is_dir()}
    found += [sweep(path, trials) for path, trials in sweeps.items()]
    known = {trial for trials in sweeps.values() for trial in trials}
    left = [path for path in (home / "trials").glob("[!.]*") if path not in known]
    return found + [sweep(path, []) for path in left]


def models_and_runs(home: Path) -> Iterator[Thing]:
    """Where the store cannot be read none of them may go: a run folder may be that of the champion."""
    try:
        stored = store.listing()
        used = {one.ref: (*one.roles, "one on trial")[0] for one in stored if one.roles or one.tried}
        for ref in (store.aliases(name).last_better for name in {one.ref.name for one in stored}):
            if ref in {one.ref for one in stored}:
                used.setdefault(ref, "last that was better than the champion before it")
        cited = {store.card(ref).lineage.run_id: f"the run of {ref}, {role}" for ref, role in used.items()}
        unread = None
    except (OSError, ValueError):  # damaged; the doctor says what
        stored, used, cited, unread = (), {}, {}, "the model store cannot be read"
    yield from (run_folder(folder, cited.get(folder.run_id, unread)) for folder in runs(home))
    for one in stored:
        held = f"it is the {used[one.ref]}" if one.ref in used else None
        made = datetime.fromisoformat(one.created)
        yield Thing(kind="model", name=str(one.ref), bytes=one.bytes, used=made, held=held, group=one.ref.name)


def run_folder(folder: RunFolder, cited: str | None) -> Thing:
    return Thing(
        kind="run folder",
        name=folder.run_id,
        bytes=size(folder.path),
        used=written_at(folder.path.glob("*")),
        held=cited or busy(folder.path),
        unfinished=not (folder.path / VERDICT).exists(),
    )


def unpacked(folder: Path) -> Thing:
    """Whoever asks for it anew sets its time."""
    return Thing(kind="unpacked archive", name=str(folder), bytes=size(folder), used=written_at([folder]))


def taken_from_shards(home: Path) -> Iterator[Path]:
    """Pictures, and what was fetched of buckets: either is had again when somebody asks."""
    return (path for path in (home / "datasets" / "shards").glob("[!.]*") if path.is_dir())


def half_a_cache(part: Path) -> Thing:
    """It is gone on with when the same pictures are asked for again."""
    held = "a process works in it" if whole.held(whole.target_of(part)) else None
    used = written_at((part, *below(part)))
    return Thing(kind="cache", name=str(part), bytes=size(part), used=used, held=held, unfinished=True)


def snapshot_records(home: Path) -> Iterator[Thing]:
    """Each stays for as long as something names it, by its fingerprint or as the last one of its data set."""
    kept = [file for file in records.folder(home).glob(f"[!.]*{records.SUFFIX}") if file.is_file()]
    if not kept:
        return
    try:
        cited = {store.card(one.ref).lineage.fingerprint: f"{one.ref} saw these pictures" for one in store.listing()}
        unread = None
    except (OSError, ValueError):
        cited, unread = {}, "the model store cannot be read"
    cited |= {read_fingerprint(run) or "": f"run {run.run_id} saw these pictures" for run in runs(home)}
    newest = [records.last(file.stem, home) for file in records.folder(home).glob("[!.]*.json")]
    lasts = {one.record for one in newest if one is not None}
    for file in kept:
        last = "it is the last one of its data set" if file.name.removesuffix(records.SUFFIX) in lasts else None
        held = unread or cited.get(records.fingerprint_of(file)) or last
        yield Thing(kind="snapshot record", name=str(file), bytes=size(file), used=written_at([file]), held=held)


def sweep(folder: Path, trials: list[Path]) -> Thing:
    """With its trials, which lie elsewhere."""
    parts = [folder, *trials]
    return Thing(
        kind="sweep",
        name=str(folder),
        bytes=sum(map(size, parts)),
        used=written_at(path for part in parts for path in below(part)),
        held=busy(folder),
    )


def trials_of(sweep: Path) -> list[Path]:
    """`home/trials/NAME-001` and so on."""
    own = re.compile(rf"{re.escape(sweep.name)}-\d{{3,}}")
    return sorted(path for path in (sweep.parents[1] / "trials").glob(f"{sweep.name}-*") if own.fullmatch(path.name))


def busy(folder: Path) -> str | None:
    try:
        return "a process works in it" if worked_on(folder) else None
    except OSError:
        return "it is another user's"


def size(path: Path) -> int:
    return sum(file.st_size for file in states(below(path)) if stat.S_ISREG(file.st_mode))


def below(path: Path) -> Iterator[Path]:
    """`rglob` would stumble over a folder that vanishes."""
    if not path.is_dir():
        yield path
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)


def states(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    """Of those that are still there."""
    for path in paths:
        with suppress(FileNotFoundError):
            yield path.lstat()


def written_at(paths: Iterable[Path]) -> datetime:
    """Locks left aside: a look at a folder writes them."""
    times = (file.st_mtime for file in states(path for path in paths if path.name != "lock"))
    return datetime.fromtimestamp(max(times, default=0.0), UTC)


def read_at(folder: Path) -> datetime:
    """Of the files in it: who lists the folder, as is done here, has read nothing of it."""
    times = [max(file.st_atime, file.st_mtime) for file in states(below(folder))]
    return datetime.fromtimestamp(max([*times, *(one.st_mtime for one in states([folder]))], default=0.0), UTC)
