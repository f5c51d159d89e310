"""The learning-rate range test of https://arxiv.org/abs/1506.01186: let the rate grow, and see what the loss does.

The rate chosen is a tenth of the one at which the loss is lowest (fastai's suggestion `minimum`): the loss still falls
there, with room above. Tried on the digits (`cnn` of width 8, batches of 32, one seed), where the defaults are SGD 0.1,
RMSprop 0.001, Adadelta 1, AdamW and Muon 0.002: this rule says 0.09, 0.0013, 1, 0.015 and 0.024 (4 epochs with AdamW
reach 0.55 at 0.002, 0.91 at 0.01); the steepest fall says 0.45, 0.006, 10, 0.06 and 0.08. The middle of the longest
fall (`valley`) says 0.011, 0.0004, 0.06, 0.0025 and 0.005, but moves with the rate the test begins at, once the loss is
free of noise. The loss of single batches is smoothed by a Gaussian that looks both ways; one that looks back alone
moves the minimum. No torch.
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
