"""The learning-rate range test of https://arxiv.org/abs/1506.01186: let the rate grow, and see where the loss falls.

The rate is chosen where the loss falls most steeply over the logarithm of the rate (the suggestion fastai calls
`steep`), before its lowest point, after which it only recovers from having been thrown about. The loss of single
batches is too rough for a slope; it is smoothed by a Gaussian that looks both ways, since one that looks back alone
would shift the slope towards higher rates. No torch here.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter1d

from data.errors import InputError
from models.records import RateTest

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 100  # 14 for each tenfold
SMOOTHING = 4.0  # standard deviation, in steps
BLOWN_UP = 4.0  # times the first loss: nothing is to be seen beyond
LEAST_STEPS = 12  # fewer show no slope


def range_test(step: Callable[[float], float]) -> RateTest:
    """`step` takes one step of training at the given rate, and returns its loss. Raises `InputError`."""
    rates: list[float] = []
    losses: list[float] = []
    for rate in np.geomspace(LOWEST, HIGHEST, STEPS).tolist():
        loss = step(rate)
        if not math.isfinite(loss) or loss > BLOWN_UP * (losses[0] if losses else math.inf):
            break
        rates.append(rate)
        losses.append(loss)
    if len(rates) < LEAST_STEPS:
        raise InputError(
            f"optimizer.lr auto found no rate: the loss blew up after {len(rates)} steps, before {LOWEST:.0e} had "
            "grown tenfold; give optimizer.lr a number, and check that pictures and labels are sound"
        )
    smooth = gaussian_filter1d(losses, SMOOTHING, mode="nearest")
    return RateTest(chosen=rates[steepest(smooth)], rates=tuple(rates), losses=tuple(losses), smooth=tuple(smooth))


def steepest(losses: np.ndarray) -> int:
    """Where the loss falls most in one step, at or before its lowest point."""
    slope = np.gradient(losses)[: int(losses.argmin()) + 1]
    return int(slope.argmin())
