"""Batches of pictures out of shards, decoded ahead by processes of their own, in the order that was asked for."""

import json
import mmap
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import cast

import numpy as np

from data import workers
from data.decode import READY
from data.errors import ShardUnreadable
from data.shards import order
from data.shards.read import Piece, Shards
from data.shards.work import decoded
from data.spec import ImageSpec
from data.workers import Process

AHEAD = 3  # batches that are decoded or wait at a time

Pieces = Callable[[np.ndarray], Sequence[Piece]]
"""Rows -> where their pictures lie."""

Refused = Callable[[int, str], None]
"""(row, why its picture cannot be decoded) -> what becomes of that: raise, or go on."""


def cores() -> int:
    """Those that this process may use; its share of them where torchrun started several here that train together."""
    together = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, workers.cores() // (int(together) if together.isdecimal() and int(together) else 1))


def here(parts: Iterable[np.ndarray], pieces: Pieces, spec: ImageSpec, refused: Refused) -> Iterator[np.ndarray]:
    """uint8 (B, stored_height, stored_width, C) for each array of rows, decoded in this process. Raises
    `ShardUnreadable`."""
    shards = Shards()
    try:
        for rows in parts:
            batch = np.zeros((len(rows), spec.stored_height, spec.stored_width, spec.channels), np.uint8)
            for place, reason in decoded(pieces(rows), shards, spec, batch):
                refused(int(rows[place]), reason)
            yield batch
    finally:
        shards.close()


class Crew:
    """So many processes, for batches of at most `largest` pictures. They wait for more until they are ended."""

    def __init__(self, spec: ImageSpec, *, processes: int, largest: int) -> None:
        self.processes, self.largest = processes, largest
        self._memory = _Memory((AHEAD * largest, spec.stored_height, spec.stored_width, spec.channels))
        self._crew = [_Process(spec, self._memory) for _ in range(processes)]

    def batches(self, parts: Iterable[np.ndarray], pieces: Pieces, refused: Refused) -> Iterator[np.ndarray]:
        """As `here`, but decoded ahead, `AHEAD` batches at a time; a picture that kills its process is refused. One
        caller at a time, who ends the crew where it is not idle then."""
        coming, under_way, jobs = iter(parts), deque[_Batch](), deque[_Job]()
        slots = self._memory.slots
        free = deque(range(0, len(slots), self.largest))
        while True:
            while free and (rows := next(coming, None)) is not None:
                batch = _Batch(rows, free.popleft())
                under_way.append(batch)
                jobs.extend(_jobs(batch, pieces(rows), self.processes))
            if not under_way:
                return
            _until_done(under_way[0], self._crew, jobs, refused)
            batch = under_way.popleft()
            yield slots[batch.first : batch.first + len(batch.rows)].copy()
            free.append(batch.first)

    @property
    def idle(self) -> bool:
        """Whether none of them has anything to do."""
        return all(process.job is None for process in self._crew)

    def end(self) -> None:
        for process in self._crew:
            process.end()
        self._memory.close()


@dataclass
class _Batch:
    rows: np.ndarray
    first: int  # slot
    left: int = 0  # jobs


@dataclass
class _Job:
    batch: _Batch
    start: int  # within the batch
    pieces: Sequence[Piece]


def _jobs(batch: _Batch, pieces: Sequence[Piece], processes: int) -> Iterator[_Job]:
    for some in order.jobs(len(pieces), processes):
        batch.left += 1
        yield _Job(batch, some.start, pieces[some])


def _until_done(batch: _Batch, crew: Sequence["_Process"], jobs: deque[_Job], refused: Refused) -> None:
    """Gives out jobs as processes become free, until the batch is complete."""
    while True:
        for process in crew:
            if process.job is None and jobs:
                process.ask(jobs.popleft())
        if not batch.left:
            return
        busy = {process.output.fileno(): process for process in crew if process.job}
        for output in wait(list(busy)):
            process = busy[cast(int, output)]
            job, said = process.answer()
            if said is None:  # halve the job until the picture that kills its decoder is alone
                reason, half = process.restart(), len(job.pieces) // 2
                if half:
                    job.batch.left += 2
                    cuts = (slice(half), slice(half, None))
                    jobs.extendleft(_Job(job.batch, job.start + (cut.start or 0), job.pieces[cut]) for cut in cuts)
                said = [] if half else [(0, reason)]
            job.batch.left -= 1
            for place, why in said:
                refused(int(job.batch.rows[job.start + place]), why)


class _Memory:
    """Slots that the processes write and this one reads; gone with the last of them, however it ends."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._file = os.memfd_create("pictures") if hasattr(os, "memfd_create") else _unnamed()
        size = int(np.prod(shape))
        os.ftruncate(self._file, size)
        self._map = mmap.mmap(self._file, size)
        self.slots = np.frombuffer(self._map, np.uint8).reshape(shape)
        self.descriptor = self._file

    def close(self) -> None:
        del self.slots
        with suppress(BufferError):  # somebody looks at it still, and it goes with that
            self._map.close()
        os.close(self._file)


def _unnamed() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Process:
    """One decoding process; it has one job at a time."""

    def __init__(self, spec: ImageSpec, memory: _Memory) -> None:
        self._arguments = ("data.shards.work", spec.model_dump_json(), f"/dev/fd/{memory.descriptor}")
        self._kept = (memory.descriptor,)
        self.job: _Job | None = None
        self._start()

    def _start(self) -> None:
        self.process = Process(*self._arguments, kept=self._kept)
        self.output = self.process.output
        self._ready = False  # importing takes a while, in which the other processes can start

    def ask(self, job: _Job) -> None:
        self.job = job
        self.process.ask(json.dumps((job.batch.first + job.start, job.pieces)))

    def answer(self) -> tuple[_Job, list[tuple[int, str]] | None]:
        """(the job, what was refused of it; None if the process died of it). Blocks until it is known. Raises
        `ShardUnreadable`."""
        assert self.job
        if not self._ready and self.output.readline() != READY:
            raise RuntimeError(f"a decoding process did not start: {' '.join(self.process.command)}")
        self._ready = True
        job, line = self.job, self.output.readline()
        self.job = None
        said = json.loads(line) if line else None
        if isinstance(said, str):
            raise ShardUnreadable(said)
        return job, said

    def restart(self) -> str:
        """A fresh process in place of a dead one; says how that died."""
        self.end()
        status = self.process.status()
        self._start()
        return f"it ended its decoder with status {status}; replace it or leave it out"

    def end(self) -> None:
        self.process.end()
