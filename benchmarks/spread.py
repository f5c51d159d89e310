"""Figures of repeated measurements: the middle, and how far they went."""

from collections.abc import Sequence
from statistics import mean, median, stdev

Spread = dict[str, float]


def spread(values: Sequence[float]) -> Spread:
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Of pairs measured one after the other, so that what slowed one slowed the other."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def about(values: Sequence[float]) -> Spread:
    """The mean and standard deviation, of figures that differ by chance alone."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return {"mean": mean(values), "std": deviation, "low": min(values), "high": max(values), "n": len(values)}
