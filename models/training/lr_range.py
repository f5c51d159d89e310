"""The learning-rate range test of https://arxiv.org/abs/1506.01186: let the rate grow, and see what the loss does.

The rate chosen is a tenth of the one at which the loss is lowest (fastai's suggestion `minimum`): the loss still falls
there, with room above. On the digits it comes near the default rates of SGD, RMSprop and Adadelta, and to several times
those of AdamW and Muon, where few epochs are better for it; the steepest fall says several times more, and the
middle of the longest fall (`valley`) moves with the rate the test begins at. The loss of single batches is smoothed by
a Gaussian that looks both ways; one that looks back alone moves the minimum. No torch.
"""

import math
from collections.abc import Callable

import numpy as np

from data.errors import InputError
from models.records import RateTest

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 100  # 14 for each tenfold
SMOOTHING = 4.0  # standard deviation, in steps
BLOWN_UP = 4.0  # times the first loss: nothing is to be seen beyond
LEAST_STEPS = 12  # fewer show nothing
BELOW = 10.0  # how far below the lowest loss's rate


def range_test(step: Callable[[float], float]) -> RateTest:
    """`step` takes one step of training at the given rate, and returns its loss. Raises `InputError`."""
    from scipy.ndimage import gaussian_filter1d  # late: 0.3 CPU seconds to import, and most trainings test no rate

    rates: list[float] = []
    losses: list[float] = []
    for rate in np.geomspace(LOWEST, HIGHEST, STEPS).tolist():
        loss = step(rate)
        if not math.isfinite(loss) or loss > BLOWN_UP * (losses[0] if losses else math.inf):
            break
        rates.append(rate)
        losses.append(loss)
    smooth = gaussian_filter1d(losses, SMOOTHING, mode="nearest") if losses else np.zeros(1)
    lowest = int(smooth.argmin())
    if lowest < LEAST_STEPS:
        raise InputError(
            f"optimizer.lr auto found no rate from {LOWEST:g} to {HIGHEST:g} at which the loss falls, and ended after "
            f"{len(rates)} steps; give optimizer.lr a number, and check that pictures and labels belong together"
        )
    return RateTest(chosen=rates[lowest] / BELOW, rates=tuple(rates), losses=tuple(losses), smooth=tuple(smooth))
