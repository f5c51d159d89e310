"""Files -> slots of the pixel file of `data.images`, in this process or in several.

A worker is `python -m data.decode SPEC PIXELS`: each line it reads is a job, each line it writes the answer, both JSON.
It ends when its input does, so none outlives the process that started it, however that one ended.
"""

import hashlib
import json
import math
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import FileIO
from itertools import chain, islice
from multiprocessing.connection import wait
from pathlib import Path
from typing import cast

import numpy as np

from data.digests import unreadable
from data.errors import PictureChanged, SourceError, UnreadableImage
from data.preprocess import stored_pixels
from data.spec import ImageSpec
from data.workers import Process

Job = Sequence[tuple[int, str, str]]
"""Slots in the pixel file, each with the path of the picture that goes there, and the sha256 (hex) that it has."""

Refusals = list[tuple[int, str]]
"""Slots that stay empty, and why."""

WRITE_BYTES = 1_000_000  # of pixels, that wait to be written

READY = b"ready\n"


def decode(job: Job, spec: ImageSpec, target: int) -> Refusals:
    """Each picture into its slot of the file open at `target`; the slots of a job follow each other. Written, not
    mapped: a full disk is then an OSError. Many at once: a call for each small picture took a sixth of the time.

    Raises `PictureChanged` for a file that is not what was listed: what is kept is known by the digest; `SourceError`
    for one that is gone or cannot be read.
    """
    shape = (spec.stored_height, spec.stored_width, spec.channels)
    together = max(1, WRITE_BYTES // math.prod(shape))
    refused: Refusals = []
    for start in range(0, len(job), together):
        some = job[start : start + together]
        pixels = np.zeros((len(some), *shape), np.uint8)
        for place, (slot, path, digest) in enumerate(some):
            content = _content(path)
            if hashlib.sha256(content).hexdigest() != digest:
                raise PictureChanged(_changed(path))
            try:
                pixels[place] = stored_pixels(content, spec)
            except UnreadableImage as error:
                refused.append((slot, str(error)))
        _write(target, pixels, some[0][0] * pixels[0].nbytes)
    return refused


def _content(path: str) -> bytes:
    """Read in half the time that `Path` takes, which counts where pictures are small."""
    try:
        with FileIO(path) as file:
            return file.readall()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):  # it was there when it was listed
        raise SourceError(_changed(path)) from None
    except OSError as error:
        raise unreadable(path, error) from None


def _changed(path: str) -> str:
    return f"{path} changed while the pictures were read; run it again"


def _write(target: int, pixels: np.ndarray, offset: int) -> None:
    left = memoryview(pixels.reshape(-1).data)
    while left:
        written = os.pwrite(target, left, offset)
        left, offset = left[written:], offset + written


def decode_in_processes(
    jobs: Iterable[Job], spec: ImageSpec, pixels: Path, *, processes: int, lock: int | None = None
) -> Iterator[tuple[Job, Refusals]]:
    """(job, its refusals) as each is finished. Raises OSError when the pixels cannot be written, else as `decode`.

    The open file `lock` is held by the processes too: who waits for it waits until none of them can write any more.

    A file that kills its decoder is refused like any other damaged one. While all decode, the next jobs are made, so
    that none waits for its own.
    """
    coming, ahead, again = iter(jobs), deque[Job](), deque[Job]()
    workers: list[Worker] = []
    try:
        for job in islice(coming, processes):
            workers.append(Worker(spec, pixels, lock))
            workers[-1].ask(job)
        while busy := {worker.output.fileno(): worker for worker in workers if worker.job}:
            while not (answered := wait(list(busy), 0)) and len(ahead) < processes and (made := next(coming, None)):
                ahead.append(made)
            for output in answered or wait(list(busy)):
                worker = busy[cast(int, output)]  # `wait` gives back what it was given
                job, refused = worker.job, worker.answer()
                if refused is None:
                    reason = worker.restart()
                    if len(job) > 1:  # halve the job until the file that kills the decoder is alone
                        again.extend((job[: len(job) // 2], job[len(job) // 2 :]))
                        job, refused = (), []
                    else:
                        refused = [(job[0][0], reason)]
                if following := next(chain(_taken(again), _taken(ahead), coming), None):
                    worker.ask(following)
                yield job, refused
    finally:
        for worker in workers:
            worker.end()


def _taken(jobs: deque[Job]) -> Iterator[Job]:
    while jobs:
        yield jobs.popleft()


class Worker:
    """One decoding process; it has one job at a time."""

    def __init__(self, spec: ImageSpec, pixels: Path, lock: int | None = None) -> None:
        self._arguments = (spec.model_dump_json(), str(pixels))
        self._kept = () if lock is None else (lock,)
        self.job: Job = ()
        self._start()

    def _start(self) -> None:
        self._process = Process("data.decode", *self._arguments, kept=self._kept)
        self.output, self.end = self._process.output, self._process.end
        self._ready = False  # importing takes a while, in which the other processes can start

    def ask(self, job: Job) -> None:
        self.job = job
        self._process.ask(json.dumps(job))

    def answer(self) -> Refusals | None:
        """What became of the job; None if the process died of it. Blocks until it is known."""
        if not self._ready and self.output.readline() != READY:
            raise RuntimeError(f"a decoding process did not start: {' '.join(self._process.command)}")
        self._ready = True
        self.job, line = (), self.output.readline()
        if not line:
            return None
        answer = json.loads(line)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["text"])
        if "source" in answer:
            raise (PictureChanged if answer["changed"] else SourceError)(answer["source"])
        return [(slot, reason) for slot, reason in answer["refused"]]

    def restart(self) -> str:
        """A fresh process in place of a dead one; says how that died."""
        self.end()
        status = self._process.status()
        self._start()
        return f"it ended its decoder with status {status}; replace it or leave it out"


def main(spec: str, pixels: str) -> None:
    """The worker's loop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends our input
    print(READY.decode(), end="", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libtiff writes what it thinks of damaged files
    image = ImageSpec.model_validate_json(spec)
    target = os.open(pixels, os.O_WRONLY)
    for line in sys.stdin:
        try:
            answer: dict[str, object] = {"refused": decode(json.loads(line), image, target)}
        except SourceError as error:
            answer = {"source": str(error), "changed": isinstance(error, PictureChanged)}
        except OSError as error:
            answer = {"errno": error.errno, "text": error.strerror}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
