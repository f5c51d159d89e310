"""Who may ask, and how often: decided by the headers, before a byte of the body is read."""

import fcntl
import logging
import math
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers

from serving import keys, metrics
from serving.errors import TooOftenError, UnauthorizedError
from serving.keys import Key, KeysError

logger = logging.getLogger("trainserve.keys")

# What whoever watches over processes asks without a key, and what somebody sees who has not entered one yet. /metrics
# is not among them: its figures tell who asks for what, and how much; Prometheus can send a key.
OPEN = frozenset(
    {"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready", "/", "/ui", "/favicon.ico", "/docs.json"}
)


@dataclass
class Bucket:
    """Tokens of one key: a request takes one, and time brings them back, up to what a second brings."""

    rate: float  # per second
    tokens: float
    at: float  # seconds, when `tokens` was right

    def wait_s(self, now: float) -> float:
        """0: one was taken; otherwise the time until there is one."""
        now = max(now, self.at)  # another worker may have counted since this one looked at the clock
        self.tokens = min(max(1.0, self.rate), self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.rate
        self.tokens -= 1
        return 0.0


class SharedBucket:
    """The same for all workers together: a few bytes of a file, locked for the microseconds that it takes to count.

    Their clocks agree: on Linux `time.monotonic` is the machine's. Nobody waits for the lock, since whoever holds it
    may stand still; two that count at the same moment may then count as one.
    """

    _STATE = struct.Struct("ddd")  # rate, tokens, at

    def __init__(self, file: Path, rate: float) -> None:
        self.rate = rate
        self._file = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b", buffering=0)

    def wait_s(self, now: float) -> float:
        """0: one was taken; otherwise the time until there is one."""
        file = self._file.fileno()
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            told = os.pread(file, self._STATE.size, 0)
            bucket = Bucket(*self._STATE.unpack(told)) if len(told) == self._STATE.size else None
            if bucket is None or bucket.rate != self.rate:
                bucket = Bucket(self.rate, max(1.0, self.rate), now)
            wait_s = bucket.wait_s(now)
            os.pwrite(file, self._STATE.pack(bucket.rate, bucket.tokens, bucket.at), 0)
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
        return wait_s


class Gate:
    """The keys of one worker. It follows the file: who asks later than `poll_s` after a change meets the new keys.

    While a new file cannot be used the keys of the last good one hold; where there never was one, no key does. Their
    rates are counted in the folder `shared` by all workers together, without one by this worker alone.
    """

    def __init__(
        self,
        path: Path,
        *,
        trusted: frozenset[int] | None,
        poll_s: float,
        shared: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._trusted = trusted
        self._poll_s = poll_s
        self._clock = clock
        self._keys: dict[bytes, Key] = {}  # by digest
        self._shared = shared
        self._buckets: dict[str, Bucket | SharedBucket] = {}
        self._seen: object = None
        self._complaint = ""  # why the file cannot be used, as the log was told
        self._next_look = -math.inf

    def admit(self, path: str, headers: Headers) -> None:
        """Raises `UnauthorizedError`, `TooOftenError`."""
        if path in OPEN:
            return
        now = self._clock()
        if now >= self._next_look:
            self._look(now)
        key = self._known(headers)
        metrics.KEYS.labels(key.name).inc()
        if key.rate is not None and (wait_s := self._bucket(key, key.rate, now).wait_s(now)) > 0:
            raise TooOftenError(
                f"this key may send {key.rate:g} requests a second; come back later", retry_after_s=math.ceil(wait_s)
            )

    def _known(self, headers: Headers) -> Key:
        """Found by its digest. How long that takes may tell how a digest begins that is in the file; but who sends a
        key does not choose its digest, so guessing gets no nearer to one, as it would by comparing keys themselves."""
        given = _given(headers)
        if given is None:
            raise UnauthorizedError(
                "a key is needed; send it as Authorization: Bearer KEY or X-API-Key: KEY, the operator has one for you"
            )
        key = self._keys.get(keys.digest(given))
        if key is None:
            raise UnauthorizedError("this key is not known here; ask the operator for another one")
        return key

    def _bucket(self, key: Key, rate: float, now: float) -> Bucket | SharedBucket:
        bucket = self._buckets.get(key.name)
        if bucket is None or bucket.rate != rate:
            if self._shared is None:
                bucket = Bucket(rate, max(1.0, rate), now)
            else:
                bucket = SharedBucket(self._shared / f"{key.name}.rate", rate)
            self._buckets[key.name] = bucket
        return bucket

    def _look(self, now: float) -> None:
        """A `stat`, microseconds; the file is read when it is another one."""
        self._next_look = now + self._poll_s
        signature = _signature(self._path)
        if signature == self._seen:
            return
        try:
            found = keys.read(self._path, self._trusted)
        except KeysError as error:  # not seen, then: what is in its way may pass without another change of the file
            self._complain(str(error))
            return
        if self._seen is not None or self._complaint:
            logger.info("now %d keys: %s", len(found), ", ".join(key.name for key in found) or "nobody may ask")
        self._seen, self._complaint = signature, ""
        self._keys = {key.digest: key for key in found}

    def _complain(self, reason: str) -> None:
        """Once, not at every look."""
        if reason != self._complaint:
            held = f"the {len(self._keys)} keys of before hold" if self._keys else "none holds"
            logger.error("%s; %s", reason, held)
        self._complaint = reason


def _given(headers: Headers) -> str | None:
    """X-API-Key first: a proxy may need the other header for itself."""
    if key := headers.get("x-api-key"):
        return key
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _signature(path: Path) -> object:
    """Changes with every new file, and with its owner and rights."""
    try:
        info = os.stat(path)  # noqa: PTH116 - on the event loop
    except OSError as error:
        return error.errno
    return (info.st_mtime_ns, info.st_ino, info.st_size, info.st_ctime_ns)
