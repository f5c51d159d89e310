"""A measurement of every stored picture, a few at a time: in this process, or in one process per core.

A worker is `python -m MODULE FILE SHAPE [NAME]...`, where MODULE defines the measurement: each line it reads is the
first row of a chunk, each answer the bytes of that chunk's values (`data/workers.py`).
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import wait
from pathlib import Path
from typing import cast

import numpy as np

from data import progress as progress_
from data.progress import Progress
from data.shards.stream import Streamed
from data.workers import Process, cores

CHUNK = 256  # pictures that are in memory at a time: 7 MB at 96 pixels
WORTH_SECONDS = 10.0  # of work still to be done, from which on processes, that must import first, save time

Command = tuple[str, ...]  # a module and its arguments
Measure = Callable[..., np.ndarray]
"""Pictures uint8 (n, H, W, C), and names of what to measure -> (n, columns); a function at the top of a module that
calls `work` when it is run."""


def each(pixels: np.ndarray, measure: Measure, what: str, *names: str, progress: Progress | None = None) -> np.ndarray:
    """(M, columns), of all pictures uint8 (M, H, W, C). Only a chunk of a memory map is read at a time.

    what: the step's name for `progress`. names: passed on to `measure`. Raises `RuntimeError` if a process dies.
    """
    tell, num = progress or progress_.ignore, len(pixels)
    if isinstance(pixels, Streamed):
        return _streamed(pixels, measure, what, *names, progress=tell)
    first = measure(np.asarray(pixels[:CHUNK]), *names)
    values = np.empty((num, first.shape[1]), first.dtype)
    values[: len(first)] = first
    starts = iter(range(CHUNK, num, CHUNK))
    tell(what, len(first), num)
    begun = time.monotonic()
    for start in starts:
        values[start : start + CHUNK] = measure(np.asarray(pixels[start : start + CHUNK]), *names)
        done = min(start + CHUNK, num)
        tell(what, done, num)
        left_s = (time.monotonic() - begun) / (done - CHUNK) * (num - done)
        if left_s > WORTH_SECONDS and cores() > 1 and (file := _file_of(pixels)):
            command = (measure.__module__, str(file), json.dumps(pixels.shape), *names)
            for start_, some in _in_processes(starts, command, values):
                values[start_ : start_ + len(some)] = some
                done += len(some)
                tell(what, done, num)
    return values


def _streamed(pixels: Streamed, measure: Measure, what: str, *names: str, progress: Progress) -> np.ndarray:
    """The same of pictures in shards, which are decoded for it, in the order in which they lie."""
    done, values = 0, np.empty(0)
    for rows, some in pixels.lying(CHUNK):
        measured = measure(some, *names)
        values = values if done else np.empty((len(pixels), measured.shape[1]), measured.dtype)
        values[rows] = measured
        done += len(rows)
        progress(what, done, len(pixels))
    return values


def _file_of(pixels: np.ndarray) -> Path | None:
    """The file that these are the whole of; None if there is none."""
    if not isinstance(pixels, np.memmap) or pixels.filename is None:
        return None
    file = Path(str(pixels.filename))
    return file if file.stat().st_size == pixels.nbytes else None


def _in_processes(starts: Iterator[int], command: Command, like: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, values) of each chunk as it is done."""
    with ExitStack() as stack:
        workers = []
        for _, start in zip(range(cores()), starts, strict=False):
            workers.append(_Worker(command, like))
            stack.callback(workers[-1].end)
            workers[-1].ask(start)
        while busy := {one.output.fileno(): one for one in workers if one.start is not None}:
            for output in wait(list(busy)):
                worker = busy[cast(int, output)]  # `wait` gives back what it was given
                yield worker.answer()
                if (following := next(starts, None)) is not None:
                    worker.ask(following)


class _Worker:
    """One measuring process; it has one chunk at a time."""

    def __init__(self, command: Command, like: np.ndarray) -> None:
        """like: (M, columns), as the values of all rows will be."""
        self._like = like
        self.start: int | None = None
        self._process = Process(*command)
        self.output, self.end = self._process.output, self._process.end

    def ask(self, start: int) -> None:
        self.start = start
        self._process.ask(str(start))

    def answer(self) -> tuple[int, np.ndarray]:
        """(first row, values). Blocks until they are known."""
        assert self.start is not None
        start, columns = self.start, self._like.shape[1]
        num = min(CHUNK, len(self._like) - start)
        told = self.output.read(num * columns * self._like.itemsize)
        if len(told) < num * columns * self._like.itemsize:
            status, command = self._process.status(), " ".join(self._process.command)
            raise RuntimeError(f"a measuring process ended with status {status}: {command}")
        self.start = None
        return start, np.frombuffer(told, self._like.dtype).reshape(num, columns)


def work(measure: Measure) -> None:
    """The worker's loop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends our input
    file, shape, *names = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    pixels: np.ndarray = np.memmap(file, np.uint8, "r", shape=tuple(json.loads(shape)))
    for line in sys.stdin:
        start = int(line)
        answers.write(np.ascontiguousarray(measure(np.asarray(pixels[start : start + CHUNK]), *names)).tobytes())
        answers.flush()
