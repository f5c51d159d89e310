"""Which way to quantize a graph: all that there are, by the answers to validation pictures, within some minutes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from data.progress import Progress, ignore
from models.cards import Recipe

# The likeliest come first, in case the minutes are short.
RECIPES = tuple(
    Recipe.model_validate({"method": method, "per_channel": per_channel, "symmetric": symmetric})
    for per_channel, symmetric, method in product((True, False), (False, True), ("minmax", "percentile", "entropy"))
)
EXCLUDED = (1, 2, 4, 8)  # nodes


@dataclass(frozen=True)
class Tried:
    recipe: Recipe
    graph: bytes
    accuracy: float  # on the validation pictures
    change: float  # mean of any probability's there

    @property
    def rank(self) -> tuple[float, float]:
        return self.accuracy, -self.change


Try = Callable[[Recipe], Tried]
Rank = Callable[[Recipe], Sequence[str]]
"""Nodes, the one whose eight bits change the answers most first."""


def search(
    attempt: Try, rank: Rank, *, first: Tried, enough: float, until: float, progress: Progress = ignore
) -> Tried:
    """The best of `first`, of all recipes, and, where it is right less often than `enough`, of leaving nodes out.

    until: of `time.monotonic`; what has begun is finished.
    """
    found = [first]
    for recipe in RECIPES:
        progress("ways to quantize", len(found), len(RECIPES))
        if time.monotonic() >= until:
            break
        if recipe != first.recipe:
            found.append(attempt(recipe))
    best = max(found, key=lambda tried: tried.rank)
    if best.accuracy >= enough or time.monotonic() >= until:
        return best
    progress("nodes to leave out", 0, 0)
    return _leaving_out(best, attempt, rank(best.recipe), enough=enough, until=until)


def _leaving_out(best: Tried, attempt: Try, nodes: Sequence[str], *, enough: float, until: float) -> Tried:
    """As few as will do, since each of them costs time in service."""
    found = [best]
    for count in EXCLUDED:
        if count >= len(nodes) or time.monotonic() >= until:
            break
        found.append(attempt(best.recipe.model_copy(update={"excluded": tuple(nodes[:count])})))
        if found[-1].accuracy >= enough:
            return found[-1]
    return max(found, key=lambda tried: tried.accuracy)
