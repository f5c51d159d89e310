"""Picture files -> answers: admission, decoding in threads, one batch queue, the model now in service."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from data import jpeg
from data.errors import ImageTooLarge, UnreadableImage
from data.preprocess import read_header, to_pixels
from serving import metrics
from serving.batching import Answer, Batcher, SaturatedError
from serving.repository import Repository
from serving.served import Served
from serving.settings import Settings

# What is answered on the event loop where nobody else waits, since to wake up other threads takes a small model a tenth
# of its time. The loop stands still for so long.
QUICK_S = 0.01
QUICK_BYTES = 65_536
QUICK_PIXELS = 256 * 256
TURN_S = 0.05  # of a decoder, for one request; the rest of its pictures waits until the others have had theirs


@dataclass
class _Decoding:
    """The pictures of one request, and how far it has come."""

    served: Served
    files: Sequence[bytes]
    pixels: list[np.ndarray] = field(default_factory=list)  # u8 (H, W, C) each
    took_s: float = 0.0


class Inference:
    """All that stands behind the routes. `start` and `stop` frame its life; `answer` belongs to the event loop."""

    def __init__(self, settings: Settings, repository: Repository | None = None) -> None:
        self.settings = settings
        self.repository = repository or Repository(settings)
        self.batcher = Batcher(max_queue=settings.max_queue, on_batch=_observe)
        self._decoders = ThreadPoolExecutor(settings.decoders, thread_name_prefix="decoder")
        self._admitted = 0  # pictures that have been let in and not been answered

    def start(self) -> None:
        self.batcher.start()
        self.repository.start()

    def stop(self) -> None:
        """Whoever has been let in is answered first."""
        self._decoders.shutdown(wait=True)
        self.batcher.stop()
        self.repository.stop()

    @property
    def alive(self) -> bool:
        """The process can still do its work; a restart is due otherwise."""
        hangs = self.batcher.hangs(picture_s=self.settings.max_answer_s, beyond_s=self.settings.hang_s)
        return self.repository.alive and self.batcher.alive and not hangs

    async def answer(self, files: Sequence[bytes], served: Served | None = None) -> Answer:
        """All from one model, by default the one in service. Raises `UnreadableImage`, `SaturatedError`,
        `NoModelError`."""
        decoding = _Decoding(served or self.repository.champion(), files)
        with self._admission(len(files)):
            if _is_quick(decoding):
                await asyncio.sleep(0)  # whoever came at the same time is let in, too
                if self._admitted == 1 and (future := self._decode(decoding)) is not None:
                    return _noted(await asyncio.wrap_future(future))
            answer = await _awaited(self._decoders, lambda: self._decode(decoding))
        return _noted(answer)

    async def answer_pixels(self, pixels: np.ndarray, served: Served) -> Answer:
        """pixels u8 (n, H, W, C) in the geometry of `served`; there is nothing to decode. Raises `SaturatedError`."""
        with self._admission(len(pixels)):
            answer = await asyncio.wrap_future(self.batcher.submit(served, pixels))
        return _noted(answer)

    def _decode(self, job: _Decoding) -> "Future[Answer] | None":
        """Bytes -> pixels -> the queue. None: its turn is over, and it wants another. In a decoder thread, or quick."""
        begun, count = time.perf_counter(), len(job.files)
        while len(job.pixels) < count:
            if time.perf_counter() - begun > TURN_S:
                job.took_s += time.perf_counter() - begun
                return None
            i = len(job.pixels)
            job.pixels.append(self.pixels(job.served, job.files[i], i, count))
        pixels = np.stack(job.pixels)
        job.pixels.clear()
        metrics.DECODE.observe(job.took_s + time.perf_counter() - begun)
        return self.batcher.submit(job.served, pixels, alone=self._admitted == count)

    def pixels(self, served: Served, file: bytes, index: int = 0, count: int = 1) -> np.ndarray:
        """One picture in the model's geometry; of several, an error says which. Not on the loop."""
        try:
            if self.settings.max_pixels is not None:
                _require_at_most(self.settings.max_pixels, file)
            return to_pixels(file, served.bundle.card.image)
        except UnreadableImage as error:
            if count == 1:
                raise
            kind = ImageTooLarge if isinstance(error, ImageTooLarge) else UnreadableImage
            raise kind(f"picture {index + 1} of {count}: {error}") from None

    @contextlib.contextmanager
    def _admission(self, pictures: int) -> Iterator[None]:
        """Those that wait for a decoder count as waiting too. Raises `SaturatedError` at once, before any work."""
        if self._admitted + pictures > self.settings.max_queue:
            raise SaturatedError
        self._admitted += pictures
        metrics.WAITING.inc(pictures)
        try:
            yield
        finally:
            self._admitted -= pictures
            metrics.WAITING.dec(pictures)


def _is_quick(job: _Decoding) -> bool:
    """Whether one picture takes no longer than a loop may stand still: a plain JPEG, which `data.jpeg` decodes."""
    if len(job.files) != 1 or len(job.files[0]) > QUICK_BYTES or job.served.pace.one_s > QUICK_S:
        return False
    frame = jpeg.plain_frame(job.files[0])
    return frame is not None and frame.height * frame.width <= QUICK_PIXELS


def _noted(answer: Answer) -> Answer:
    """Raises for what is no answer, and no JSON either: a network may come to infinity on one picture alone."""
    metrics.QUEUE.observe(answer.timing.queued_s)
    if not np.isfinite(answer.probabilities).all():
        raise FloatingPointError(f"{answer.served.name} answered with numbers that are not finite")
    return answer


def _require_at_most(pixels: int, file: bytes) -> None:
    header = read_header(file)
    if header.width * header.height > pixels:
        raise ImageTooLarge(
            f"the picture is {header.width} x {header.height} pixels, more than the limit of {pixels:,}; scale it down"
        )


async def _awaited(pool: ThreadPoolExecutor, work: Callable[[], "Future[Answer] | None"]) -> Answer:
    """Run `work` in the pool, in turn with others until it returns a future, and await that, with one wake-up of the
    event loop instead of two."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def settle(finished: "Future[Answer]") -> None:
        loop.call_soon_threadsafe(_copy, finished, done)

    def run() -> None:
        try:
            while (future := work()) is None:
                if _queued(pool, run):
                    return
            future.add_done_callback(settle)
        except Exception as error:  # noqa: BLE001 - it belongs to the request that waits
            failed: Future[Answer] = Future()
            failed.set_exception(error)
            settle(failed)

    pool.submit(run)
    return await done


def _queued(pool: ThreadPoolExecutor, run: Callable[[], None]) -> bool:
    """Behind all that wait. False: the pool is shutting down and takes nothing more."""
    try:
        pool.submit(run)
    except RuntimeError:
        return False
    return True


def _copy(finished: "Future[Answer]", done: "asyncio.Future[Answer]") -> None:
    if done.cancelled():  # the sender went away
        return
    error = finished.exception()
    if error is None:
        done.set_result(finished.result())
    else:
        done.set_exception(error)


def _observe(pictures: int, seconds: float) -> None:
    metrics.INFERENCE.observe(seconds)
    metrics.BATCH.observe(pictures)
