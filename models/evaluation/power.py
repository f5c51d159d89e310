"""How often a model of a known true difference passes: worked out, not simulated. No torch here.

For whoever sets `release.margin` or the number of test pictures; docs/release.md has a table of it.
"""

from collections.abc import Callable

import numpy as np

from models.evaluation.compare import relate
from models.evaluation.config import ReleaseConfig
from models.evaluation.pairs import Paired, counted

RARE = 1e-6  # numbers of discordant pictures beyond this tail are left out


def promotion(*, n: int, loss: float, discordance: float, config: ReleaseConfig) -> float:
    """The chance to be promoted on `n` test pictures, of a model that is right where the champion is wrong, or the
    reverse, on a share `discordance` of all pictures, and worse by `loss` (a share; a gain is negative).

    Checks of other things than accuracy are taken to pass. Raises ValueError where the loss exceeds the discordance.
    """

    def promoted(pairs: Paired) -> bool:
        return relate(pairs, same=False, config=config) in ("better", "not worse")

    return passing(promoted, n=n, loss=loss, discordance=discordance, confidence=config.confidence)


def passing(passes: Callable[[Paired], bool], *, n: int, loss: float, discordance: float, confidence: float) -> float:
    """The same for any rule which more gained and fewer lost pictures never fail."""
    from scipy.stats import binom

    if not 0 <= abs(loss) <= discordance <= 1 or not discordance:
        raise ValueError(f"a loss of {loss} needs at least as many answers that differ; {discordance} are given")
    gain = (discordance - loss) / 2 / discordance  # share of the discordant pictures that is gained
    differing = np.arange(int(binom.ppf(RARE, n, discordance)), int(binom.isf(RARE, n, discordance)) + 1)
    least = [int(differing[0]) // 2]
    for number in differing.tolist():
        least.append(_least(passes, number, n, confidence=confidence, near=least[-1]))
    chance = binom.pmf(differing, n, discordance)
    return float((chance * binom.sf(np.array(least[1:]) - 1, differing, gain)).sum())


def _least(passes: Callable[[Paired], bool], differing: int, n: int, *, confidence: float, near: int) -> int:
    """The fewest gained pictures, of those that differ, that pass; one more than there are where none does."""

    def enough(gained: int) -> bool:
        return passes(counted(gained, differing - gained, n, confidence=confidence))

    least = min(near, differing + 1)
    while least > 0 and enough(least - 1):
        least -= 1
    while least <= differing and not enough(least):
        least += 1
    return least
