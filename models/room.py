"""A disk that is full when a run is about to start: one sentence. No torch here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import RunFailed


@contextmanager
def must_be_written(folder: Path) -> Iterator[None]:
    """Around files that a run cannot go without. Raises `RunFailed` where they cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"the run could not be started, since {folder} could not be written to ({error.strerror or error}); make "
            "room there, and the same command starts it, or goes on with what it had learnt"
        ) from error
