"""How two models answered the same pictures, and what that proves. No torch here.

N pictures. Only those that exactly one of the two gets right say anything about the difference of accuracies: `lost`
(champion right, challenger wrong) and `gained` (the reverse).

- Significance: exact McNemar test, which is a binomial test of `gained` among `gained + lost`.
- The lower limit of a difference of paired proportions: the score limit of Tango (1998),
  https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B. The exact interval conditional on
  the discordant pairs is not used: it takes their number for a known share, and so lets through a model that only
  loses (simulated in tests/models/test_compare.py).
- Where hardly anything is gained, Tango's limit errs more often than it says (6.8 % for 5 % at 133 pictures): there the
  exact binomial limit of the loss alone (Clopper and Pearson, 1934) is lower, and counts.
- The same limit by the paired bootstrap (Efron, 1979): pictures drawn again, with replacement. For the accuracy only
  the numbers of gained, lost and other pictures matter, and these are multinomial: nothing needs to be drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.evaluation.metrics import Interval, bin_of

RESAMPLED = 1_000  # times, where no formula says what would come of it


@dataclass(frozen=True)
class Paired:
    """How two models answered the same pictures."""

    n: int
    gained: int  # challenger right, champion wrong
    lost: int  # champion right, challenger wrong
    p_value: float  # exact McNemar, two-sided
    difference_low: float  # one-sided lower limit of the accuracy difference
    resampled_low: float  # the same by the bootstrap

    @property
    def difference(self) -> float:
        return (self.gained - self.lost) / self.n


def paired(right_new: np.ndarray, right_old: np.ndarray, *, confidence: float) -> Paired:
    """Both (N,) bool: was the answer right."""
    gained, lost = int((right_new & ~right_old).sum()), int((right_old & ~right_new).sum())
    return counted(gained, lost, len(right_new), confidence=confidence)


def of_a_loss(right_new: np.ndarray, right_old: np.ndarray) -> float:
    """p of the one-sided exact McNemar test that nothing was lost. Both (N,) bool: was the answer right."""
    from scipy.special import bdtr

    gained, lost = int((right_new & ~right_old).sum()), int((right_old & ~right_new).sum())
    return float(bdtr(gained, gained + lost, 0.5))


@lru_cache(maxsize=65_536)
def counted(gained: int, lost: int, n: int, *, confidence: float) -> Paired:
    """Of `n` pictures."""
    from scipy.special import bdtr

    tail = float(bdtr(min(gained, lost), gained + lost, 0.5))
    return Paired(
        n=n,
        gained=gained,
        lost=lost,
        p_value=min(1.0, 2 * tail),
        difference_low=min(
            lowest_difference(gained=gained, lost=lost, n=n, confidence=confidence),
            -largest_loss(lost - gained, n, confidence=confidence) if lost >= gained else 1.0,
        ),
        resampled_low=resampled_difference(gained=gained, lost=lost, n=n, confidence=confidence),
    )


def lowest_difference(*, gained: int, lost: int, n: int, confidence: float) -> float:
    """Tango's one-sided lower limit for (gained - lost) / n: the smallest difference that the data do not reject."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    if lost == n:
        return -1.0
    z = float(ndtri(confidence))

    def surplus(difference: float) -> float:
        """Positive while `difference` is rejected as too small."""
        # The most likely share of lost pictures, were this the true difference: root of 2n s^2 + b s + c = 0.
        b = difference * (2 * n + lost - gained) - (gained + lost)
        c = -lost * difference * (1 - difference)
        share = (np.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return float(gained - lost - n * difference - z * np.sqrt(max(variance, 0.0)))

    return float(brentq(surplus, -1.0, (gained - lost) / n - 1e-9))


def largest_loss(lost: int, n: int, *, confidence: float) -> float:
    """The exact one-sided upper limit for lost / n, were nothing ever gained."""
    from scipy.special import betaincinv

    return float(betaincinv(lost + 1, n - lost, confidence)) if lost < n else 1.0


def resampled_difference(*, gained: int, lost: int, n: int, confidence: float) -> float:
    """The bootstrap's one-sided lower limit for (gained - lost) / n, of infinitely many resamplings: each of n draws
    counts +1, -1 or 0, and the Fourier transform of the distribution of their sum is the n-th power of that of one."""
    room = 1 << (2 * n).bit_length()  # for the sums -n to n, counted from the end where they are negative
    draw = np.zeros(room)
    draw[[0, 1, -1]] = (n - gained - lost) / n, gained / n, lost / n
    chance = np.roll(np.fft.irfft(np.fft.rfft(draw) ** n, room), n)
    return float(np.argmax(chance.cumsum() >= 1 - confidence) - n) / n


def resampled(statistic: Callable[[np.ndarray], float], n: int, *, confidence: float, seed: int) -> Interval:
    """Two-sided, of a statistic of how often each of `n` pictures was drawn: (n,) int64 -> a number."""
    rng = np.random.default_rng(seed)
    found = [statistic(np.bincount(rng.integers(n, size=n), minlength=n)) for _ in range(RESAMPLED)]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(low), high=float(high))


def recall_difference(
    right_new: np.ndarray, right_old: np.ndarray, labels: np.ndarray
) -> Callable[[np.ndarray], float]:
    """Of the macro recalls, given how often each picture was drawn; a class that was not drawn is left out."""
    change = right_new.astype(np.float64) - right_old

    def difference(drawn: np.ndarray) -> float:
        pictures = np.bincount(labels, weights=drawn)
        there = pictures > 0
        return float((np.bincount(labels, weights=drawn * change)[there] / pictures[there]).mean())

    return difference


def error_difference(new: np.ndarray, old: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], float]:
    """Of the calibration errors of two (N, K) probabilities, given how often each picture was drawn."""
    gaps = []
    for probabilities in (new, old):
        answer = probabilities.max(axis=1)
        gaps.append((bin_of(answer), answer - (probabilities.argmax(axis=1) == labels)))

    def difference(drawn: np.ndarray) -> float:
        errors = [np.abs(np.bincount(bins, weights=drawn * gap)).sum() / drawn.sum() for bins, gap in gaps]
        return float(errors[0] - errors[1])

    return difference
