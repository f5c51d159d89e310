"""The pixel file of a cache is filled: by all cores, and from where an earlier builder was stopped or killed.

In the folder lie the pixels, a slot for each picture of the snapshot, and a journal of the slots that are done. Once
all are, the gaps that unreadable pictures leave are closed and what was unreadable is written down, last of all.
"""

import json
import os
import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from data.compact import Texts, chunks
from data.decode import Job, Refusals, decode, decode_in_processes
from data.errors import InputError
from data.journal import Journal
from data.progress import Progress
from data.snapshot import Snapshot
from data.spec import ImageSpec
from data.whole import write
from data.workers import cores

PIXELS, UNREADABLE, DONE = "pixels.u8", "unreadable.json", "done.jsonl"

JOB_PICTURES = 256  # at most, in one job: small ones are decoded in less time than it takes to ask for one
JOB_BYTES = 2_000_000  # of files, in one job; large photographs then still show progress
INLINE_SECONDS = 1.0  # what takes no longer needs no processes
GAUGE_SECONDS = 0.1  # by then it is known how long it will take
COMPACT_ROWS = 256  # moved at a time


def fill(part: Path, snapshot: Snapshot, image: ImageSpec, progress: Progress, *, lock: int) -> None:
    """All pictures of the snapshot into `part`, which holds what an earlier builder did with the same ones.

    The decoding processes share the open file `lock`, so that nobody else begins while one of them may still write.
    """
    for left in part.glob(".*.part"):
        left.unlink()  # by a kill in the middle of writing
    if (part / UNREADABLE).exists():
        return  # it was killed after all was done
    num, slot_bytes = len(snapshot.files), image.stored_height * image.stored_width * image.channels
    pixels, journal = part / PIXELS, part / DONE
    if not journal.exists():
        pixels.unlink(missing_ok=True)  # its gaps may have been half closed
    _check_room(part, num * slot_bytes - _allocated(pixels))
    with pixels.open("ab") as file:
        file.truncate(num * slot_bytes)
    refused = _decode_the_rest(pixels, journal, snapshot, image, progress, lock=lock)
    empty = [slot for slot, _ in refused]
    if empty:
        _remove_for_good(journal)  # the slots will not be where it says
        _compact(pixels, empty, num, slot_bytes)
    write(part / UNREADABLE, json.dumps(refused).encode())


def forget(folder: Path) -> None:
    """What the finished cache has no use for."""
    (folder / DONE).unlink(missing_ok=True)


def _decode_the_rest(
    pixels: Path, journal: Path, snapshot: Snapshot, image: ImageSpec, progress: Progress, *, lock: int
) -> Refusals:
    """Of all pictures, those done by earlier builders among them."""
    num = len(snapshot.files)
    with Journal(journal, pixels) as kept:
        todo = np.ones(num, dtype=bool)
        refused: Refusals = []
        for first, end, unreadable in kept.done:
            todo[first:end] = False
            refused += unreadable
        left = int(todo.sum())
        jobs = _jobs(snapshot, np.flatnonzero(todo))
        with closing(_decode_all(jobs, left, image, pixels, lock)) as results:
            for job, unreadable in results:
                if job:
                    kept.add(job[0][0], job[-1][0] + 1, unreadable)
                left -= len(job)
                refused += unreadable
                progress("decode", num - left, num)
    return sorted(refused)


def _check_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part).free
    if needed > free:
        raise InputError(
            f"the decoded pictures need {needed / 1e9:.1f} GB in {part.parent}, where {free / 1e9:.1f} GB are free; "
            "make room, set TRAINSERVE_HOME to a larger disk, or choose a smaller dataset.size"
        )


def _allocated(file: Path) -> int:
    """Bytes that it takes on the disk: slots that were never written take none."""
    return file.stat().st_blocks * 512 if file.exists() else 0


def _jobs(snapshot: Snapshot, rows: np.ndarray) -> Iterator[Job]:
    """Of rows without a gap between them."""
    job: list[tuple[int, str, str]] = []
    size, root, files = 0, str(snapshot.root), Texts.of(snapshot.files)  # many at once: one by one takes as long again
    for some in (rows[some] for some in chunks(len(rows))):
        told = zip(some.tolist(), files.taken(some), snapshot.hashed.taken(some), snapshot.sizes[some], strict=True)
        for row, file, digest, bytes_ in told:
            if job and (len(job) == JOB_PICTURES or size >= JOB_BYTES or job[-1][0] + 1 != row):
                yield job
                job, size = [], 0
            job.append((row, f"{root}/{file}", digest))
            size += int(bytes_)
    if job:
        yield job


def _decode_all(
    jobs: Iterable[Job], num: int, image: ImageSpec, pixels: Path, lock: int
) -> Generator[tuple[Job, Refusals]]:
    """In this process, unless `num` pictures take longer than `INLINE_SECONDS`: then most of them in one per core."""
    jobs = iter(jobs)
    target = os.open(pixels, os.O_WRONLY)
    began, done = time.monotonic(), 0
    try:
        for job in jobs:
            yield job, decode(job, image, target)
            done += len(job)
            took = time.monotonic() - began
            if took > GAUGE_SECONDS and took / done * (num - done) > INLINE_SECONDS:
                break
    finally:
        os.close(target)
    yield from decode_in_processes(jobs, image, pixels, processes=cores(), lock=lock)


def _remove_for_good(file: Path) -> None:
    """A power loss does not bring it back."""
    file.unlink()
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _compact(pixels: Path, empty: list[int], num: int, slot_bytes: int) -> None:
    """Closes the gaps of slots that stayed empty, in place and a few rows at a time."""
    kept = np.delete(np.arange(num), empty)
    if len(kept):
        slots = np.memmap(pixels, np.uint8, "r+", shape=(num, slot_bytes))
        for start in range(0, len(kept), COMPACT_ROWS):
            rows = kept[start : start + COMPACT_ROWS]
            slots[start : start + len(rows)] = slots[rows]  # the right side is a copy; rows only move down
        slots.flush()
        del slots
    with pixels.open("r+b") as file:
        file.truncate(len(kept) * slot_bytes)
