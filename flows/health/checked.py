"""What a check of `trainserve doctor` finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Checked:
    """One line of the examination; `fix` mends it and says in a sentence what it did."""

    what: str
    level: Level
    message: str
    fix: Callable[[], str] | None = None


Checks = Iterator[Checked]
