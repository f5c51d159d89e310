"""The model now in service: follows the alias file, opens a candidate in the background, swaps or refuses."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from data.errors import InputError
from data.spec import Frozen, ImageSpec
from models.bundle.bundle import Bundle
from serving import metrics, store
from serving.refs import ModelRef
from serving.settings import Settings

logger = logging.getLogger("trainserve.live")

Open = Callable[[Path, int], Bundle]


@dataclass(frozen=True, eq=False)
class Served:
    """One model, ready to answer. Whoever holds it may use it; it is freed when nobody does."""

    ref: ModelRef
    name: str  # str(ref), asked for in every request
    bundle: Bundle
    since: str  # ISO 8601, UTC


class Refused(Frozen):
    """A champion that did not get into service."""

    model: str
    reason: str  # one sentence, without paths
    when: str


class Live:
    """`current` is read by every request; one thread of its own is the only writer."""

    def __init__(self, settings: Settings, *, opened: Open | None = None) -> None:
        self._settings = settings
        self._opened = opened or (lambda folder, threads: Bundle.open(folder, threads=threads))
        self._stop = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="live", daemon=True)
        self._seen: object = None  # signature of the alias file that was acted upon last
        self.pinned: str | None = settings.model  # the model name this service follows
        self.current: Served | None = None
        self.refused: Refused | None = None

    def start(self, *, wait_s: float = 30.0) -> None:
        """Begin to follow the alias; returns once the first look is done, so that a ready model serves at once."""
        self._thread.start()
        self._first.wait(wait_s)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def look(self) -> None:
        """One look at the alias file, and the swap if it says so. Called by the thread, and by tests."""
        if self.pinned is None:
            self.pinned = store.latest_promoted()
        if self.pinned is None:
            return
        signature = _signature(store.alias_path(self.pinned))
        if signature == self._seen:
            return
        held = store.aliases(self.pinned)
        self._seen = signature
        candidates = [held.champion] if self.current else [held.champion, held.previous]
        for ref in candidates:
            if ref is not None and self._take(ref):
                return

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - whatever the disk does, following must go on
                self._complain(error)
            self._first.set()
            self._stop.wait(self._settings.poll_s)

    def _take(self, ref: ModelRef) -> bool:
        """True if `ref` is in service afterwards. A failure leaves everything as it was."""
        if self.current is not None and self.current.ref == ref:
            self.refused = None
            return True
        folder = store.home() / "models" / ref.name / ref.version / "bundle"
        try:
            bundle = self._opened(store.path(ref), self._settings.threads)
            _require_identity(bundle, ref)
            _warm(bundle, self._settings.max_batch)
        except Exception as error:  # noqa: BLE001 - a candidate may fail in any way; the one in service goes on
            self._refuse(ref, _reason(error).replace(str(folder), "the bundle"))
            return False
        before = self.current
        self.current = Served(ref=ref, name=str(ref), bundle=bundle, since=_now())
        metrics.SWAPS.inc()
        metrics.READY.set(1)
        if self.refused is not None and self.refused.model != self._champion():
            self.refused = None
        if self._first.is_set():  # what is served from the start is announced with the address
            logger.info("now serving %s%s", ref, f" instead of {before.ref}" if before else "")
        return True

    def _champion(self) -> str | None:
        champion = store.aliases(self.pinned).champion if self.pinned else None
        return str(champion) if champion else None

    def _refuse(self, ref: ModelRef, reason: str) -> None:
        self.refused = Refused(model=str(ref), reason=reason, when=_now())
        metrics.REFUSED.inc()
        goes_on = f"{self.current.ref} goes on" if self.current else "nothing else is in service"
        logger.error("%s is refused: %s; %s", ref, reason, goes_on)

    def _complain(self, error: Exception) -> None:
        """Once for each new reason, not at every look. The log has the path, which /model must not tell."""
        reason = f"its aliases cannot be read ({type(error).__name__})"
        if self.refused is None or self.refused.reason != reason:
            self.refused = Refused(model=str(self.pinned), reason=reason, when=_now())
            logger.error("the aliases of %s cannot be read: %s", self.pinned, error)


def _signature(path: Path) -> object:
    """Changes with every rename into place; None where there is no file."""
    try:
        info = os.stat(path)  # noqa: PTH116 - four times a second
    except FileNotFoundError:
        return None
    return (info.st_mtime_ns, info.st_ino, info.st_size)


def _require_identity(bundle: Bundle, ref: ModelRef) -> None:
    if (bundle.card.name, bundle.card.version) != (ref.name, ref.version):
        raise InputError(f"its card says {bundle.card.name}@{bundle.card.version}; store the bundle again")


def _warm(bundle: Bundle, max_batch: int) -> None:
    """The first batch of a size is slower; let it not be a request's."""
    for pictures in {1, max_batch}:
        probabilities = bundle.predict(_blank(pictures, bundle.card.image))
        if not np.isfinite(probabilities).all():
            raise InputError("it answers with numbers that are not finite; train it again")


def _blank(pictures: int, image: ImageSpec) -> np.ndarray:
    return np.zeros((pictures, image.height, image.width, image.channels), dtype=np.uint8)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"it cannot be opened ({type(error).__name__})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
