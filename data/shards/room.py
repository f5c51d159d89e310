"""Room for shards that were fetched: what was not used longest goes first, and nothing that somebody is at work with.

Whoever begins some work leaves a mark in the folder, an empty file that is locked until its end, also that of its
process. What was used since the oldest mark was made stays, whoever makes room: a batch of pictures finds all shards
that were fetched for it, also where these are more than the limit allows, and where two runs have one home. What is too
much then goes when the next one is fetched.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data import whole

LOCK, MARK = "room", ".using"


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """What is `touched` within stays until its end."""
    with whole.locked(folder / LOCK):
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=MARK, dir=folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(descriptor)


def touched(shard: Path) -> bool:
    """Whether it is there; then it was used just now."""
    with whole.locked(shard.parent / LOCK):
        try:
            os.utime(shard)
        except FileNotFoundError:
            return False
    return True


def make(folder: Path, limit: int, *, at_least: int) -> None:
    """At most so many bytes stay, but `at_least` so many shards, and what is in use."""
    with whole.locked(folder / LOCK):
        began = [_began(mark) for mark in folder.glob(f".*{MARK}")]
        oldest = min((one for one in began if one is not None), default=None)
        shards = []
        for file in folder.glob("*.tar"):
            with suppress(FileNotFoundError):
                shards.append((file.stat(), file))
        shards.sort(key=lambda one: one[0].st_mtime_ns)
        total = sum(state.st_size for state, _ in shards)
        for state, file in shards[: max(0, len(shards) - at_least)]:
            if total <= limit or (oldest is not None and state.st_mtime_ns >= oldest):
                return
            file.unlink(missing_ok=True)
            total -= state.st_size


def _began(mark: Path) -> int | None:
    """When (ns), of work that goes on; the mark of one who was killed goes."""
    try:
        descriptor = os.open(mark, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)
    mark.unlink(missing_ok=True)
    return None
