"""Which column of a table holds the pictures, and which one their classes."""

from collections.abc import Sequence
from typing import Literal

from data.errors import SourceError

USUAL = {"image": (), "label": ("label",)}  # names that decide where types leave several


def column(
    what: Literal["image", "label"], candidates: Sequence[str], where: str, *, asked: str | None = None
) -> str | None:
    """The one that was asked for, or the only one; None where there is none. Raises `SourceError` for several."""
    if asked is not None:
        if asked not in candidates:
            known = f"use {' or '.join(map(repr, candidates))}" if candidates else "leave it out"
            raise SourceError(f"{where} has no column {asked!r} of {what}s (dataset.label); {known}")
        return asked
    usual = [name for name in candidates if name in USUAL[what]]
    if len(candidates) < 2 or len(usual) == 1:
        return next(iter(usual or candidates), None)
    remedy = "choose by dataset.label" if what == "label" else "save it with one"
    raise SourceError(f"{where} has several columns of {what}s, {', '.join(map(repr, candidates))}; {remedy}")
