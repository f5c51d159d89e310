"""Figures of repeated measurements: the median, and how far they went."""

from collections.abc import Sequence
from statistics import median

Spread = dict[str, float]


def spread(values: Sequence[float]) -> Spread:
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Of pairs measured one after the other, so that what slowed one slowed the other."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])
