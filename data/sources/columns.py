"""The columns that a listing may have, whatever kind of file it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data.errors import SourceError

NEEDED = ("path", "label")
COLUMNS = (*NEEDED, "split", "group", "time")

Row = tuple[str, Mapping[str, str]]
"""Where it stands, such as `line 17`; column -> cell without the spaces around it."""


def columns_of(names: Sequence[str], file: Path, place: str) -> list[str]:
    """The header's columns, in small letters. Raises `SourceError` for one that is unknown, missing or there twice."""
    columns = [name.strip().lower() for name in names]
    while columns and not columns[-1]:
        columns.pop()
    for name in columns:
        if name not in COLUMNS:
            raise SourceError(f"{file.name}, {place}: {name!r} is no column; use {', '.join(COLUMNS)}")
        if columns.count(name) > 1:
            raise SourceError(f"{file.name}, {place}: the column {name!r} is there twice; leave one")
    for name in NEEDED:
        if name not in columns:
            raise SourceError(f"{file.name}, {place}: the column {name!r} is missing; use {', '.join(COLUMNS)}")
    return columns
