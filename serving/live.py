"""The model of one name now in service: follows the alias file, opens a candidate in the background, swaps or
refuses."""

import logging
import os
import threading
from pathlib import Path

from serving import challengers, metrics, store
from serving.refs import ModelRef
from serving.served import Open, Refused, RefusedError, Served, now, opened, serve
from serving.settings import Settings
from serving.store import Aliases
from serving.trial import Trying

logger = logging.getLogger("trainserve.live")


class Live:
    """`current` is read by every request; one thread of its own is the only writer.

    Without a name it follows the model that was promoted last when it first looked.
    """

    def __init__(self, settings: Settings, name: str | None = None, *, open_: Open = opened) -> None:
        self._settings = settings
        self._open = open_
        self._stop = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="live", daemon=True)
        self._seen: object = None  # signature of the alias file that was acted upon last
        self.name = name
        self.held: Aliases | None = None  # as the alias file said at the last look
        self.current: Served | None = None
        self.refused: Refused | None = None
        self.trying: Trying | None = None  # a challenger on trial

    def start(self) -> None:
        """Begin to follow the alias."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Until the first look is done, so that a ready model serves at once."""
        self._first.wait(seconds)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def look(self) -> None:
        """One look at the alias file, and the swap if it says so. Called by the thread, and by tests."""
        if self.name is None:
            self.name = store.latest_promoted()
        if self.name is None:
            return
        signature = _signature(store.alias_path(self.name))
        if signature == self._seen:
            return
        self.held = held = store.aliases(self.name)
        self._seen = signature
        candidates = [held.champion] if self.current else [held.champion, held.previous]
        for ref in candidates:
            if ref is not None and self._take(ref):
                break
        self._try_out(held)

    def end_trial(self, reason: str) -> None:
        """The champion answers everything again, in this worker."""
        trying = self.trying
        self._try(None)
        if trying is not None:
            metrics.WITHDRAWN.labels(trying.served.ref.name).inc()
            logger.error("the trial of %s is ended: %s; the champion answers everything", trying.served.name, reason)

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
        try:
            served = serve(ref, self._settings, open_=self._open)
        except RefusedError as error:
            self._refuse(ref, str(error))
            return False
        before = self.current
        self.current = served
        metrics.SWAPS.labels(ref.name).inc()
        metrics.READY.labels(ref.name).set(1)
        if self.refused is not None and self.refused.model != self._champion():
            self.refused = None
        if self._first.is_set():  # what is served from the start is announced with the address
            logger.info("now serving %s%s", ref, f" instead of {before.ref}" if before else "")
        return True

    def _try_out(self, held: Aliases) -> None:
        """Beside the champion that it is to be compared with, and no other."""
        trial = held.trial
        if trial is None or self.current is None or self.current.ref != held.champion:
            self._try(None)
            return
        if self.trying is not None and self.trying.trial == trial:
            return
        ref = ModelRef(name=self.current.ref.name, version=trial.version)
        try:
            self._try(Trying(serve(ref, self._settings, open_=self._open), trial))
        except RefusedError as error:
            self._try(None)
            self._refuse(ref, str(error))
            withdraw(ref, str(error))
            return
        how = "shadows" if trial.shadow else "answers"
        logger.info("%s %s %g %% of the requests to %s", ref, how, 100 * trial.share, self.name)

    def _try(self, trying: Trying | None) -> None:
        self.trying = trying
        if self.name is not None:
            metrics.TRYING.labels(self.name).set(trying is not None)

    def _champion(self) -> str | None:
        champion = store.aliases(self.name).champion if self.name else None
        return str(champion) if champion else None

    def _refuse(self, ref: ModelRef, reason: str) -> None:
        self.refused = Refused(model=str(ref), reason=reason, when=now())
        metrics.REFUSED.labels(ref.name).inc()
        goes_on = f"{self.current.ref} goes on" if self.current else "nothing else is in service"
        logger.error("%s is refused: %s; %s", ref, reason, goes_on)

    def _complain(self, error: Exception) -> None:
        """Once for each new reason, not at every look. The log has the path, which /model must not tell."""
        self._seen = None  # what was seen before may come back, as it was
        reason = f"its aliases cannot be read ({type(error).__name__})"
        if self.refused is None or self.refused.reason != reason:
            self.refused = Refused(model=str(self.name), reason=reason, when=now())
            logger.error("the aliases of %s cannot be read: %s", self.name, error)


def withdraw(ref: ModelRef, reason: str) -> None:
    """End a trial in all workers; where this user may not write the aliases, the log says so."""
    try:
        challengers.withdraw(ref, reason=reason)
    except Exception:
        logger.exception("the end of the trial of %s could not be written down", ref)


def _signature(path: Path) -> object:
    """Changes with every rename into place; None where there is no file."""
    try:
        info = os.stat(path)  # noqa: PTH116 - four times a second
    except FileNotFoundError:
        return None
    return (info.st_mtime_ns, info.st_ino, info.st_size)
