"""Values that are made in a thread before they are wanted."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(values: Iterator[T], num: int, *, by: int) -> Generator[T]:
    """All `num` of them, so many asked for in a thread before they are wanted."""
    if not by:
        yield from values
        return
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        waiting: deque[Future[T]] = deque(pool.submit(next, values) for _ in range(min(by, num)))
        for asked in range(len(waiting), num + len(waiting)):
            if asked < num:
                waiting.append(pool.submit(next, values))
            if not waiting:
                return
            yield waiting.popleft().result()
