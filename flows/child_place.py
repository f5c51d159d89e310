"""The GPU that a fold or a trial trains on, in a process of its own beside others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.slots import place


@contextmanager
def gpus_of_a_place(kind: str, n: int = 1, *, stop: Callable[[], bool]) -> Iterator[tuple[str, ...]]:
    """What the process is to see, as this host names them, held as long as the block runs and waited for; of `kind`
    "cpu" none, since an engine gives out no more at a time than there are workers. Raises `Stopped`."""
    if kind == "cpu":
        yield ()
        return
    with place(kind, n, stop=stop) as taken:
        yield tuple(one.name.removeprefix("gpu-") for one in taken)
