"""Requests that arrive together are answered together: one thread takes what waits, and never waits for more.

At most as many pictures at a time as serve the model best (`serving.pace`).
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from data.errors import InputError
from serving.served import Served

OnBatch = Callable[[int, float], None]
"""Told of so many pictures that took the model so many seconds."""


_Given = tuple[np.ndarray, np.ndarray | None]
"""(n, K) probabilities, (n,) energies."""


class SaturatedError(InputError):
    """More pictures wait than are allowed to; the sender should come back."""


@dataclass(frozen=True)
class Timing:
    """What became of one job."""

    queued_s: float
    inference_s: float  # of all that it was answered with
    pictures: int  # of these


@dataclass(frozen=True)
class Answer:
    probabilities: np.ndarray  # (n, K) float32
    served: Served  # the model that gave them
    timing: Timing
    energies: np.ndarray | None = None  # (n,) float32, where `served` says how strange pictures are to it


@dataclass(eq=False)
class _Job:
    """n pictures of one request, decoded in the geometry of `served`; they stay together."""

    served: Served
    pixels: np.ndarray  # (n, H, W, C) uint8
    future: "Future[Answer]"
    arrived: float


class Batcher:
    """A bounded queue and the thread that empties it. A sender who is alone may ask the model himself.

    A job carries the model it was decoded for, and a batch holds jobs of one model: an answer names the version
    that gave it even while models change, and a replaced model lives until its last job is done.
    """

    def __init__(self, *, max_queue: int, on_batch: OnBatch = lambda *_: None) -> None:
        self._max_queue = max_queue
        self._on_batch = on_batch
        self._jobs: deque[_Job] = deque()
        self._waiting = 0  # pictures in the queue
        self._changed = threading.Condition()
        self._stopping = False
        self._busy = False  # somebody asks the model: this thread, or a sender who is alone
        self._batch: tuple[float, int] | None = None  # since when the model is busy, with how many pictures
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer what is queued, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(10)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def hangs(self, *, picture_s: float, beyond_s: float) -> bool:
        """Whether the model is busy with one batch for longer than its pictures may take, and `beyond_s`."""
        batch = self._batch
        return batch is not None and time.perf_counter() - batch[0] > batch[1] * picture_s + beyond_s

    @property
    def waiting(self) -> int:
        """Pictures in the queue."""
        return self._waiting

    def require_room(self, pictures: int = 1) -> None:
        """Raises `SaturatedError` when `submit` would; asked before the work of decoding."""
        if self._waiting + pictures > self._max_queue:
            raise SaturatedError

    def submit(self, served: Served, pixels: np.ndarray, *, alone: bool = False) -> "Future[Answer]":
        """pixels u8 (n, H, W, C). Raises `SaturatedError`.

        `alone`: nobody else is there to be answered with. Then the model is asked by the calling thread, which saves
        waking another up, unless somebody came before.
        """
        future: Future[Answer] = Future()
        job = _Job(served, pixels, future, time.perf_counter())
        with self._changed:
            self.require_room(len(pixels))
            if self._stopping:
                raise SaturatedError
            mine = alone and not self._busy and not self._jobs
            if mine:
                self._busy = True
            else:
                self._waiting += len(pixels)
                self._jobs.append(job)
                self._changed.notify()
        if mine:
            self._ask([job], served.pace.limit(len(pixels)))
        return future

    def _run(self) -> None:
        while taken := self._take():
            self._ask(*taken)
            del taken  # the last reference to a replaced model must not wait here for the next request

    def _ask(self, jobs: list[_Job], limit: int) -> None:
        """By whoever has made it busy."""
        self._batch = (time.perf_counter(), sum(len(job.pixels) for job in jobs))
        _answer(jobs, limit, self._on_batch)
        self._batch = None
        with self._changed:
            self._busy = False
            if self._jobs or self._stopping:
                self._changed.notify()

    def _take(self) -> tuple[list[_Job], int] | None:
        """Jobs of one model, in order of arrival, as many as fit a batch, and its limit; None when stopping."""
        with self._changed:
            while self._busy or not self._jobs:
                if self._stopping and not self._busy:
                    return None
                self._changed.wait()
            self._busy = True
            taken = [self._jobs.popleft()]
            limit = taken[0].served.pace.limit(self._waiting)
            pictures = len(taken[0].pixels)
            while self._jobs and self._jobs[0].served is taken[0].served:
                if pictures + len(self._jobs[0].pixels) > limit:
                    break
                taken.append(self._jobs.popleft())
                pictures += len(taken[-1].pixels)
            self._waiting -= pictures
            return taken, limit


def _answer(jobs: list[_Job], limit: int, on_batch: OnBatch) -> None:
    jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
    if not jobs:
        return
    served = jobs[0].served
    begun = time.perf_counter()
    try:
        pixels = jobs[0].pixels if len(jobs) == 1 else np.concatenate([job.pixels for job in jobs])
        # One request alone may hold more pictures than a batch: it is answered in slices.
        slices = [_predict(served, pixels[i : i + limit], on_batch) for i in range(0, len(pixels), limit)]
        probabilities, energies = slices[0] if len(slices) == 1 else _joined(slices)
    except Exception as error:  # noqa: BLE001 - the requests of this batch fail; the thread lives on
        for job in jobs:
            job.future.set_exception(error)
        return
    inference_s = time.perf_counter() - begun
    row = 0
    for job in jobs:
        part = slice(row, row + len(job.pixels))
        row += len(job.pixels)
        timing = Timing(queued_s=begun - job.arrived, inference_s=inference_s, pictures=len(pixels))
        strange = None if energies is None else energies[part]
        job.future.set_result(Answer(probabilities[part], served, timing, strange))


def _joined(slices: list[_Given]) -> _Given:
    """All of them say how strange a picture is, or none does."""
    energies = [energies for _, energies in slices if energies is not None]
    return np.concatenate([one for one, _ in slices]), np.concatenate(energies) if energies else None


def _predict(served: Served, pixels: np.ndarray, on_batch: OnBatch) -> _Given:
    begun = time.perf_counter()
    given = served.ask(pixels)
    took_s = time.perf_counter() - begun
    served.pace.note(len(pixels), took_s)
    on_batch(len(pixels), took_s)
    return given
