"""Request bodies, counted while they arrive: nothing is held beyond a limit, nobody may take for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Message, Receive

from serving.batching import SaturatedError
from serving.errors import RequestError, TooLargeError, TooSlowError

T = TypeVar("T")
SMALL_BYTES = 65_536
DRAIN_BYTES = 256 * 1024 * 1024
STRANGER_DRAIN_BYTES = 16 * 1024 * 1024  # more than a picture: who forgot the key shall read so
DRAIN_S = 10.0
DRAIN_IDLE_S = 1.0


class Body:
    """The body of one request. `ended` says whether its last byte has arrived."""

    def __init__(self, receive: Receive, *, expects: bool) -> None:
        self._receive = receive
        self.ended = not expects

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.ended = True
        return message

    async def drain(self, most: int = DRAIN_BYTES) -> None:
        """Read on and forget, within bounds: a sender whose connection is cut cannot read why."""
        left = most
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self.ended and left > 0:
                    message = await asyncio.wait_for(self.receive(), DRAIN_IDLE_S)
                    left -= len(message.get("body", b""))


class Held:
    """Bytes of uploads in memory, all requests of this worker together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0

    def take(self, count: int) -> None:
        """Raises `SaturatedError` beyond the limit."""
        if self._bytes + count > self._limit:
            raise SaturatedError
        self._bytes += count

    def give_back(self, count: int) -> None:
        self._bytes -= count


def of(request: Request, *, limit: int, timeout_s: float, held: Held) -> AbstractAsyncContextManager[bytes]:
    """As `whole`."""
    declared = request.headers.get("content-length")
    return whole(request.receive, declared=declared, limit=limit, timeout_s=timeout_s, held=held)


async def off_the_loop(size: int, work: Callable[[], T]) -> T:
    """Reading a small body is cheaper than a thread; reading ten megabytes of JSON would hold up everyone else."""
    return work() if size <= SMALL_BYTES else await asyncio.to_thread(work)


@contextlib.asynccontextmanager
async def whole(
    receive: Receive, *, declared: str | None, limit: int, timeout_s: float, held: Held
) -> AsyncIterator[bytes]:
    """All bytes of a body, held until the block ends. Raises `TooLargeError`, `TooSlowError`, `SaturatedError`."""
    if declared is not None and declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    taken = 0
    try:
        try:
            async with asyncio.timeout(timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError("the connection closed before the request had arrived whole")
                    chunk = message.get("body", b"")
                    if taken + len(chunk) > limit:
                        raise _too_large(limit)
                    held.take(len(chunk))
                    taken += len(chunk)
                    chunks.append(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise TooSlowError(f"the request took more than {timeout_s:g} seconds to arrive; try again") from None
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        yield body
    finally:
        held.give_back(taken)


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the upload is larger than the {limit:,} bytes this service takes; send a smaller picture")
