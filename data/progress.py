"""How long work reports that it moves: one callable, ignored by default."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""(what, done, total) -> None: called now and then; total 0 where it is not known."""


def ignore(what: str, done: int, total: int) -> None:
    """The default."""
