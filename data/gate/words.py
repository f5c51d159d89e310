"""Counts and strangers' names in sentences."""

from collections.abc import Iterable, Sequence

NAMED = 5  # names in a sentence


def count(things: Sequence[object] | int, noun: str) -> str:
    """`1 picture`, `1,200 pictures`."""
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def few(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    return ", ".join(shown[:NAMED]) + (f" and {len(shown) - NAMED} more" if len(shown) > NAMED else "")


def printable(name: str) -> str:
    """File names need not be text, and may hold line ends and what moves a terminal's cursor; reports do not."""
    text = name.encode("utf-8", "replace").decode()
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)
