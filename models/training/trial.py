"""What is found out by trying on a copy of the network before training: the learning rate, the size of a batch, the
speed."""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import count, islice
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from models.config import TrainConfig
from models.device import is_full, seed
from models.records import RateTest
from models.training.config import OptimizerConfig
from models.training.distributed import ALONE, Ranks
from models.training.lr_range import range_test
from models.training.memory import SMALLEST, too_large
from models.training.optim import build_optimizer, set_peak, set_rate
from models.training.plan import Speed
from models.training.pulse import heed, never
from models.training.step import dropout_seed, train_step

if TYPE_CHECKING:
    from models.training.fit import Batches, Validate

WARM_UP_STEPS, TIMED_STEPS = 2, 10  # of the speed measurement
BATCH_SIZE = 64  # pictures in a step, where no other is asked for
LEAST_STEPS = 20  # in an epoch, with a batch size found by trying: larger batches would make too few steps
TRIED_STEPS = 2  # the second has the optimiser's memory too
HEADROOM = 0.05  # share of the GPU's free memory that stays free, for what a trial does not do


def try_rates(
    net: nn.Module,
    batches: "Batches",
    *,
    optimizer: OptimizerConfig,
    config: TrainConfig,
    class_weights: Tensor | None = None,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> RateTest:
    """The range test on a copy: `net` is left as it was, and the same seed finds the same rate. Raises `InputError`,
    `Stopped`; `stop` is asked before every step, and has to say the same to all processes.

    Several processes share each batch as in training, and all hear the losses of the first: where rounding differs they
    would otherwise not end at the same step, and wait for each other.
    """
    twin = deepcopy(net).train()
    spread, descent = ranks.spread(twin), build_optimizer(twin, optimizer)
    stream = endless(batches)

    def step(rate: float) -> float:
        heed(stop, during="the range test")
        epoch, index, pixels, targets = next(stream)
        set_peak(descent, rate)
        set_rate(descent, 1.0)
        seed(pixels.device, dropout_seed(config.seed, epoch, index, rank=ranks.rank))
        loss = float(train_step(spread, descent, pixels, targets, config=config, class_weights=class_weights)[0])
        return ranks.first((loss,))[0]

    return range_test(step)


def endless(batches: "Batches") -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """(epoch, step, pixels, targets), one epoch after the other."""
    for epoch in count():
        for step, (pixels, targets) in enumerate(batches.epoch(epoch)):
            yield epoch, step, pixels, targets


def choose_batch_size(
    config: TrainConfig, *, num_pictures: int, device: torch.device, fits: Callable[[int], bool]
) -> int:
    """What is asked for; by default 64; with "auto" on a GPU, the largest doubling of it for which `fits` says yes, or
    where it has no room for 64, the first half of it. Raises `InputError` as `largest`."""
    default = min(BATCH_SIZE, num_pictures)
    if config.batch_size == "auto":
        return default if device.type != "cuda" else largest(default, num_pictures // LEAST_STEPS, fits)
    return config.batch_size or default


def largest(size: int, limit: int, fits: Callable[[int], bool]) -> int:
    """`size`, doubled while it stays within `limit` and fits; or halved until it fits. Raises `InputError` where two
    pictures do not."""
    given = size
    while 2 * size <= limit and fits(2 * size):
        size *= 2
    if size > given:
        return size
    while not fits(size):
        size //= 2
        if size < SMALLEST:
            raise too_large(f", with no train.batch_size from {given} down to {SMALLEST}")
    return size


def fits_memory(
    net: nn.Module,
    batches: "Batches",
    *,
    optimizer: OptimizerConfig,
    config: TrainConfig,
    class_weights: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> bool:
    """Whether real steps of a copy leave some memory free. Whatever they took is given back.

    Of several processes each tries its share by itself, so `net` must not want to hear of the others, as shared norms
    do; all are told whether all have the room.
    """
    device = next(net.parameters()).device
    before = free_memory(device)
    try:
        take_steps(net, batches, optimizer=optimizer, config=config, class_weights=class_weights, ranks=ranks)
        enough = free_memory(device) >= HEADROOM * before
    except RuntimeError as error:
        if not is_full(error):
            raise
        enough = False
    if device.type == "cuda":
        torch.cuda.empty_cache()  # after the except clause, whose traceback holds on to the tensors
    return not ranks.any(not enough)


def take_steps(
    net: nn.Module,
    batches: "Batches",
    *,
    optimizer: OptimizerConfig,
    config: TrainConfig,
    class_weights: Tensor | None,
    ranks: Ranks = ALONE,
) -> None:
    """Beside the copy that trains stand others: the moving average or the best weights, and with several processes
    the gradients that they send each other. Of these each makes the whole batch, and learns from its share."""
    twin, _beside = deepcopy(net).train(), [deepcopy(net) for _ in range(1 if ranks.num == 1 else 2)]
    descent = build_optimizer(twin, optimizer)
    for pixels, targets in islice(batches.epoch(0), TRIED_STEPS):
        own = slice(max(-(-len(pixels) // ranks.num), SMALLEST))  # the largest of all, so that all try the same
        train_step(twin, descent, pixels[own], targets[own], config=config, class_weights=class_weights).tolist()


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU, where what torch keeps for later counts as taken; 0 elsewhere."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def measure_speed(
    net: nn.Module,
    batches: "Batches",
    validate: "Validate",
    *,
    optimizer: OptimizerConfig,
    config: TrainConfig,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
    began: float,
) -> Speed:
    """A few steps and a validation of a copy; `net` is left as it was. All since `began` (of `time.monotonic`) counts
    as part of the run. Raises `Stopped`; `stop` is asked as in `try_rates`."""
    twin = deepcopy(net).train()
    spread, steps = ranks.spread(twin), build_optimizer(twin, optimizer)

    def step_s(done: float) -> float:
        times = [time.monotonic()]
        for pixels, targets in islice(batches.epoch(0, done=done), WARM_UP_STEPS + TIMED_STEPS):
            heed(stop, during="the measurement of the speed")
            train_step(spread, steps, pixels, targets, config=config).tolist()  # waits for a GPU
            times.append(time.monotonic())
        took = np.diff(times).tolist()
        return median(took[WARM_UP_STEPS:] or took)

    full_s, small_s = step_s(1.0), step_s(0.0) if batches.growing else 0.0
    stepped = time.monotonic()
    validate(twin)
    ended = time.monotonic()
    # Of rank 0, or each would make a plan of its own.
    figures = ranks.first((full_s, ended - stepped, ended - began, batches.growing, small_s))
    return Speed(*figures)
