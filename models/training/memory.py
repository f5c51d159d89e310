"""A batch that does not fit into the memory of the device: which one would, found by trying."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from data.errors import InputError
from models.config import Experiment
from models.device import is_full
from models.training.optim import build_optimizer
from models.training.step import train_step

if TYPE_CHECKING:
    from models.training.fit import Batches

T = TypeVar("T")

SMALLEST = 2  # pictures: batch norm cannot learn from one


class Short(Exception):  # noqa: N818 - a state, as in Stopped
    """Memory ran short in a training whose batch size may be another; `fits` is less than `size`."""

    def __init__(self, size: int, *, fits: int) -> None:
        super().__init__(f"memory ran short with batches of {size} pictures; training begins again with {fits}")
        self.fits = fits


def until_it_fits(train: Callable[[int | None], T], *, size: int | None, on_short: Callable[[Short], None]) -> T:
    """`train(size)`, and after each `Short`, which `on_short` hears, again with the size that fits."""
    while True:
        try:
            return train(size)
        except Short as short:
            size = short.fits
            on_short(short)
        gc.collect()  # what the frames held, which are gone by now


def within_memory(
    train: Callable[[], T],
    *,
    size: int,
    attempt: Callable[[int], object],
    fixed: bool = False,
    auto: bool = False,
) -> T:
    """`train()`. Where `size` does not fit, raises `InputError` with the batch size that would, by `attempt`, or if
    "auto" was asked for `Short` with it.

    `fixed`: one of several processes, where nothing can be tried without the others.
    """
    try:
        return train()
    except RuntimeError as error:
        if not is_full(error):
            raise
        # and let go of the frames, which hold the tensors, before anything is tried
    if fixed:
        raise InputError(f"train.batch_size {size} does not fit into the memory of the devices; use {size // 2}")
    fits = largest(size // 2, attempt)
    if fits is None:
        raise too_large(f", with no train.batch_size from {size} down to {SMALLEST}")
    if auto:
        raise Short(size, fits=fits)
    raise InputError(
        f"train.batch_size {size} does not fit into the memory of the device; use {fits}, which was tried and fits"
    )


@contextmanager
def network_fits() -> Iterator[None]:
    """Around all that makes the network. Raises `InputError` where there is no memory for it."""
    try:
        yield
    except RuntimeError as error:
        if is_full(error):
            raise too_large() from None
        raise


def too_large(when: str = "") -> InputError:
    return InputError(
        f"the network does not fit into the memory of the device{when}; "
        "use smaller pictures (dataset.size) or a smaller network"
    )


def largest(size: int, attempt: Callable[[int], object]) -> int | None:
    """The first of size, size / 2, size / 4 ... that `attempt` gets through; None if none does.

    `attempt` raises what `is_full` knows for a batch that does not fit.
    """
    while size >= SMALLEST:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(size)
        except RuntimeError as error:
            if not is_full(error):
                raise
            size //= 2
        else:
            return size
    return None


def one_step(net: nn.Module, batches_of: Callable[[int], "Batches"], experiment: Experiment) -> Callable[[int], object]:
    """An `attempt`: one step of training, of a copy, on the first batch of that size; a larger one is never made."""

    def attempt(size: int) -> None:
        pixels, targets = next(iter(batches_of(size).epoch(0)))
        twin = deepcopy(net).train()
        optimizer = build_optimizer(twin, experiment.optimizer)
        train_step(twin, optimizer, pixels, targets, config=experiment.train).tolist()

    return attempt
