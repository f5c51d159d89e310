"""How far a long piece of work has come: written while it is done, so that it goes on after a kill or a power loss."""

import json
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from data import whole
from data.decode import Refusals

SYNC_EVERY_S = 5.0

Done = tuple[int, int, Refusals]
"""First slot, the one behind the last, and the slots between them that stay empty."""


class Journal:
    """A line for each piece of work, behind the bytes that it speaks of.

    After a kill every line counts. After a power loss bytes may be missing of which a line is there: then only those
    count that come before the bytes were last known to be on the disk, which a thread sees to every few seconds.
    """

    def __init__(self, file: Path, work: Path) -> None:
        """`work` is the file that the pieces are written to."""
        self.done = read(file)
        self._work = os.open(work, os.O_RDWR)
        os.fsync(self._work)
        lines = [_line([BOOT, *one]) for one in self.done] + [_line({"synced": len(self.done)})]
        whole.write(file, b"".join(lines))  # without what does not count any more
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND)
        self._num, self._synced_at = len(self.done), time.monotonic()
        self._thread = ThreadPoolExecutor(1)
        self._syncing: Future[None] | None = None

    def add(self, first: int, end: int, refused: Refusals) -> None:
        os.write(self._file, _line([BOOT, first, end, refused]))
        self._num += 1
        if time.monotonic() - self._synced_at > SYNC_EVERY_S and (self._syncing is None or self._syncing.done()):
            self._synced_at = time.monotonic()
            self._require_synced()
            self._syncing = self._thread.submit(self._sync, self._num)

    def _require_synced(self) -> None:
        """The system tells of bytes that it could not write once, and never again. Raises `OSError`."""
        if self._syncing is not None:
            self._syncing.result()

    def _sync(self, num: int) -> None:
        """`num` lines speak of bytes that were written before."""
        os.fsync(self._work)
        os.write(self._file, _line({"synced": num}))
        os.fsync(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """At the end the bytes are on the disk."""
        try:
            self._require_synced()
            self._thread.submit(self._sync, self._num).result()
        finally:
            self._thread.shutdown()
            os.close(self._file)
            os.close(self._work)


def read(file: Path) -> list[Done]:
    """What is done for certain; nothing where there is no journal."""
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    found: list[tuple[str, Done]] = []
    synced = 0
    for line in lines:
        try:
            entry = json.loads(line)
            if isinstance(entry, dict):
                synced = int(entry["synced"])
            else:
                boot, first, end, refused = entry
                found.append((boot, (first, end, [(slot, reason) for slot, reason in refused])))
        except (ValueError, TypeError, KeyError):
            break  # torn, or of the disk's making
    return [done for number, (boot, done) in enumerate(found) if number < synced or boot == BOOT]


def _line(entry: object) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _read_boot() -> str:
    """Changes whenever the machine is started; where that cannot be known, whenever a process is."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return uuid4().hex[:8]


BOOT = _read_boot()
