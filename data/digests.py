"""sha256 of many files: in threads, and remembered, so that an unchanged file is never read twice."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data import progress as progress_
from data import whole
from data.errors import SourceError
from data.progress import Progress

BATCH = 128  # files handed to a thread at once: a future for each would cost more than hashing a small picture
SETTLED_NS = 2_000_000_000  # a file changed this recently could change again within the clock's grain


def of_files(
    root: Path,
    names: Sequence[str],
    home: Path,
    *,
    anew: bool = False,
    place: Path | None = None,
    progress: Progress = progress_.ignore,
) -> tuple[list[str], list[int]]:
    """Digests (hex) and sizes (bytes) of the files `names` below `root`, in that order.

    Remembered below `home` by (place, name, size, time of change), unless they are to be read anew; the place is `root`
    unless it says otherwise, as where several listings name files of one folder. Raises `SourceError` for a file that
    cannot be read.
    """
    memory_file = memory_of(place or root, home)
    memory = {} if anew else _load(memory_file)
    now = time.time_ns()
    states = [_state(root, name) for name in names]
    known = [memory.get(name) for name in names]
    todo = [i for i, state in enumerate(states) if known[i] is None or known[i][:2] != list(state)]  # type: ignore[index]
    digests = ["" if entry is None else str(entry[2]) for entry in known]
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 2)) as pool:
        batches = [todo[i : i + BATCH] for i in range(0, len(todo), BATCH)]
        results = pool.map(lambda rows: [_digest(root / names[i]) for i in rows], batches)
        for n, (rows, found) in enumerate(zip(batches, results, strict=True), start=1):
            for i, digest in zip(rows, found, strict=True):
                digests[i] = digest
            progress("reading", min(n * BATCH, len(todo)), len(todo))
    settled = {
        name: [*state, digest]
        for name, state, digest in zip(names, states, digests, strict=True)
        if state[1] < now - SETTLED_NS
    }
    if settled != memory:
        whole.write(memory_file, json.dumps(settled).encode())
    return digests, [size for size, _ in states]


def memory_of(root: Path, home: Path) -> Path:
    """The file in which is remembered what lies below `root`."""
    return home / "datasets" / "digests" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:24]}.json"


def of_file(path: Path, home: Path) -> str:
    """The digest (hex) of one file, remembered."""
    return of_files(path, [""], home)[0][0]


def _load(file: Path) -> dict[str, list[int | str]]:
    """What is remembered; a memory that cannot be read is no memory."""
    try:
        memory = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(memory, dict):
        return {}
    return {name: entry for name, entry in memory.items() if isinstance(entry, list) and len(entry) == 3}


def _state(root: Path, name: str) -> tuple[int, int]:
    """Size and time of change (ns) of a file."""
    path = root / name
    try:
        state = path.stat()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; make it readable or remove it") from None
    return state.st_size, state.st_mtime_ns


def _digest(path: Path) -> str:
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; make it readable or remove it") from None
