"""Batches of pictures: on the device as a whole where they fit, else streamed, from the memory map or out of shards.

The batch at (seed, epoch, step) is a function of these three numbers and the pictures, so a run goes on in the middle
of an epoch without replaying it, and neither prefetching nor placement changes any result.
"""

import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data import sampling
from data.ahead import read_ahead
from data.augment import augment, centre_view
from data.errors import InputError
from data.shards import order, own_part
from data.shards.own_part import Own
from data.shards.stream import Streamed
from data.spec import AugmentConfig, ImageSpec

ROOM = 0.5  # share of the device's memory that pictures may take; the rest is for the network
PREFETCH = 2  # batches gathered ahead while streaming
SMALLER, SIDE_STEP = 2 / 3, 8  # of the side at the beginning of a run that grows; pixels


class Batch(NamedTuple):
    """pixels (B, height, width, C), uint8 or float32 of 0..255; targets int64 (B,) or float32 (B, num_classes)."""

    pixels: Tensor
    targets: Tensor


class Pictures:
    """All stored pictures (M, stored_height, stored_width, C), ready to be taken by row; shared by folds and runs."""

    def __init__(self, pixels: np.ndarray, device: torch.device | str = "cpu", *, resident: bool | None = None) -> None:
        """`resident` None: on the device if it has the room. On a CPU nothing is copied: the page cache is RAM. Those
        in shards never are: they are decoded batch by batch."""
        self.device = torch.device(device)
        self.streamed = pixels if isinstance(pixels, Streamed) else None
        fits = pixels.nbytes <= ROOM * memory(self.device) if resident is None else resident
        self.resident: bool = fits and self.streamed is None
        self._pixels = torch.empty(0)
        if self.streamed is not None:
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self._pixels = torch.from_numpy(pixels)
        if self.resident:
            self._pixels = self._pixels.to(self.device)

    def __len__(self) -> int:
        return len(self._pixels if self.streamed is None else self.streamed)

    def gather(self, rows: np.ndarray) -> Tensor:
        """uint8 (B, ...), on the device if resident, else in memory that a GPU can fetch by itself."""
        if self.streamed is not None:
            return self._pinned(torch.from_numpy(self.streamed[rows]))
        picked = self._pixels.index_select(0, sent(torch.from_numpy(rows), self._pixels.device))
        return picked if self.resident else self._pinned(picked)

    def _pinned(self, picked: Tensor) -> Tensor:
        return picked.pin_memory() if self.device.type == "cuda" else picked

    def batches(
        self, rows: Sequence[np.ndarray], *, prefetch: int = PREFETCH, own: Own | None = None
    ) -> Iterator[Tensor]:
        """One uint8 tensor on the device for each array of rows; read ahead in a thread while streaming. What lies in
        shards is black where nobody looks at it, by `own`."""
        if self.resident:
            for there in brought(rows, self.device):
                yield self._pixels.index_select(0, there)
            return
        with (
            closing(self._gathered(rows, own)) as gathered,
            closing(read_ahead(gathered, len(rows), by=prefetch)) as ahead,
        ):
            for picked in ahead:
                yield sent(picked, self.device)

    def _gathered(self, rows: Sequence[np.ndarray], own: Own | None) -> Generator[Tensor]:
        if self.streamed is None:
            yield from map(self.gather, rows)
            return
        with closing(own_part.batches(self.streamed, rows, own)) as decoded:
            for pixels in decoded:
                yield self._pinned(torch.from_numpy(pixels))


class TrainBatches:
    """Shuffled, augmented batches of the training rows.

    Every row comes once an epoch; if balanced, as many rows, of every class equally many (`data.sampling`). The last
    short batch is kept, except that a single left-over picture joins the batch before it: batch norm cannot learn
    from one picture.
    """

    def __init__(
        self,
        pictures: Pictures,
        labels: np.ndarray,
        rows: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        image: ImageSpec,
        config: AugmentConfig,
        num_classes: int,
        balanced: bool = False,
        prefetch: int = PREFETCH,
    ) -> None:
        """labels (M,) of all pictures, rows those trained on; `config` comes from `augment.resolve`."""
        if batch_size > len(rows):
            raise InputError(
                f"batch_size {batch_size} is larger than the {len(rows)} training pictures; use at most {len(rows)}"
            )
        self.batch_size = batch_size
        self._pictures, self._rows, self._seed = pictures, np.asarray(rows, np.int64), seed
        self._labels = np.asarray(labels, np.int64)
        self._image, self._config, self._num_classes = image, config, num_classes
        self._balanced, self._prefetch = balanced, prefetch
        self._own: Own | None = None
        self._generator = torch.Generator(pictures.device)

    def of_size(self, batch_size: int) -> "TrainBatches":
        """The same pictures in the same order, in batches of another size; at most as many as there are."""
        other = copy(self)
        other.batch_size = batch_size
        return other

    def shared(self, own: Own) -> "TrainBatches":
        """The same, of which only some pictures are looked at, by others the others: these need not be decoded. Where
        pictures are mixed, each may be looked at by way of another."""
        other = copy(self)
        other._own = None if self._config.mixup or self._config.cutmix else own
        return other

    @property
    def device(self) -> torch.device:
        return self._pictures.device

    @property
    def num_pictures(self) -> int:
        return len(self._rows)

    @property
    def steps_per_epoch(self) -> int:
        full, left = divmod(self.num_pictures, self.batch_size)
        return full + (left > 1)

    def rows(self, epoch: int) -> list[np.ndarray]:
        """The rows of each step of an epoch."""
        if self._balanced:
            shown = sampling.balanced(self._rows, self._labels[self._rows], seed=self._seed, epoch=epoch)
        elif (streamed := self._pictures.streamed) is not None:
            shown = order.windowed(self._rows, streamed.shards, seed=self._seed, epoch=epoch)
        else:
            shown = sampling.natural(self._rows, seed=self._seed, epoch=epoch)
        cuts = np.arange(1, self.steps_per_epoch) * self.batch_size
        return np.split(shown, cuts)

    @property
    def growing(self) -> float:
        """The share of a run in which pictures are smaller, and steps cheaper."""
        return self._config.grow or 0.0

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on; `done` is the share of the run that lies behind it."""
        seen = smaller(self._image) if done < self.growing else None
        rows = self.rows(epoch)[start_step:]
        stream = self._pictures.batches(rows, prefetch=self._prefetch, own=self._own)
        labels = brought([self._labels[some] for some in rows], self.device)
        together = zip(stream, labels, self._turns(epoch, rows), strict=True)
        for step, (pixels, targets, mirrored) in enumerate(together, start_step):
            seed = int(sampling.stream(self._seed, epoch, step, sampling.CHANGES).integers(2**63))
            yield Batch(
                *augment(
                    pixels,
                    targets,
                    self._config,
                    self._image,
                    num_classes=self._num_classes,
                    generator=self._generator.manual_seed(seed),
                    seen=seen,
                    mirrored=mirrored,
                )
            )

    def _turns(self, epoch: int, rows: Sequence[np.ndarray]) -> Sequence[Tensor | None]:
        """bool (B,) for each step: which pictures are mirrored; None if that is drawn anew each time, or none are."""
        if not (self._config.flip and self._config.alternate):
            return [None] * len(rows)
        turns = sampling.turns(len(self._labels), seed=self._seed, epoch=epoch)
        return brought([turns[some] for some in rows], self.device)


def smaller(image: ImageSpec) -> tuple[int, int]:
    """(height, width): about two thirds, which halves the arithmetic, in steps that networks halve well."""

    def shrink(side: int) -> int:
        return min(side, max(SIDE_STEP, round(side * SMALLER / SIDE_STEP) * SIDE_STEP))

    return shrink(image.height), shrink(image.width)


def eval_batches(
    pictures: Pictures,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    batch_size: int,
    image: ImageSpec,
    prefetch: int = PREFETCH,
) -> Iterator[Batch]:
    """The rows in their order, seen as the service sees them: the centre, nothing random. The last may be short."""
    rows = np.asarray(rows, np.int64)
    parts = np.split(rows, np.arange(batch_size, len(rows), batch_size)) if len(rows) else []
    targets = brought([np.asarray(labels[part], np.int64) for part in parts], pictures.device)
    for pixels, some in zip(pictures.batches(parts, prefetch=prefetch), targets, strict=True):
        yield Batch(centre_view(pixels, image), some)


def brought(parts: Sequence[np.ndarray], device: torch.device) -> Sequence[Tensor]:
    """Each of them on the device, by one copy for all: many small ones would cost a GPU more than the work between."""
    if not parts:
        return ()
    return torch.split(sent(torch.from_numpy(np.concatenate(parts)), device), [len(part) for part in parts])


def sent(values: Tensor, device: torch.device) -> Tensor:
    """On the device; a GPU fetches them by itself, from memory pinned for that, and nobody waits."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def memory(device: torch.device) -> int:
    """Bytes that the pictures may share with everything else: free ones of a GPU, all of the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
