"""One training by several processes: the same `fit`, each computing its share of every batch.

Each rank sees every batch whole, already changed at random, and takes a slice of it; `Spread` sends the slice through
the network (DistributedDataParallel adds up the gradients), gathers the answers, and so gives every rank the logits of
the whole batch. Loss, clipping, optimiser and early stopping are then computed by all ranks alike, from the same
numbers: whatever the loss, it is the one of a single process within rounding, also where the slices differ in size.
What it costs: every rank changes the whole batch at random. What lies in shards each rank decodes for its own slice
alone, unless pictures are mixed: the others are black there, and nobody looks at them.

Batch norm takes its statistics over the whole batch (`norms.py`). Dropout alone differs from one process: its random
numbers are a function of (seed, epoch, step, rank).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data.errors import InputError
from models.device import choose_device

PATIENCE = timedelta(minutes=30)  # that one rank waits for another: a validation, a slow disk


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is. Alone, nothing is sent, and every method gives back what it was given."""

    rank: int = 0
    num: int = 1

    @property
    def writes(self) -> bool:
        """Files are one process's work."""
        return self.rank == 0

    def part(self, total: int, rank: int | None = None) -> slice:
        """A rank's share, this one's by default, of so many in a row; shares differ by one at most."""
        rank = self.rank if rank is None else rank
        size, over = divmod(total, self.num)
        start = rank * size + min(rank, over)
        return slice(start, start + size + (rank < over))

    def places(self, total: int, parts: int) -> np.ndarray:
        """int64: those of a batch that this rank sends through the network, where it goes there in so many parts."""
        return np.concatenate([some[self.part(len(some))] for some in np.array_split(np.arange(total), parts)])

    def spread(self, net: nn.Module) -> nn.Module:
        """Takes a whole batch and answers for the whole of it; `net` keeps its weights and their names."""
        return net if self.num == 1 else Spread(net, self)

    def any(self, said: bool) -> bool:
        """Whether any rank says so: all act alike, at the same step."""
        return said if self.num == 1 else bool(self._added([float(said)])[0] > 0)

    def mean(self, figures: tuple[float, ...], *, num: int) -> tuple[float, ...]:
        """Means over the examples of all ranks, from those over the `num` examples of this one."""
        if self.num == 1:
            return figures
        added = self._added([float(num), *(num * figure if num else 0.0 for figure in figures)])
        return tuple((added[1:] / added[0]).tolist())

    def first(self, figures: tuple[float, ...]) -> tuple[float, ...]:
        """Those of rank 0."""
        if self.num == 1:
            return figures
        return tuple(self._added([figure if self.rank == 0 else 0.0 for figure in figures]).tolist())

    def describe(self, device: str) -> str:
        """Of all."""
        return device if self.num == 1 else f"{self.num} x {device}"

    def require_same(self, number: int, found: str) -> None:
        """Raises `InputError` where the ranks do not go on from the same checkpoint; `found`: this one's, in words."""
        if self.any(self.first((float(number),))[0] != number):
            raise InputError(
                f"the processes that train together found different checkpoints (this one {found}); "
                "put TRAINSERVE_HOME on a disk that all of them share"
            )

    def _added(self, figures: list[float]) -> Tensor:
        """float64 sums over the ranks; on the CPU, so that a GPU is not waited for."""
        numbers = torch.tensor(figures, dtype=torch.float64)
        dist.all_reduce(numbers, group=_talk[0])
        return numbers


ALONE = Ranks()

_talk: list[Any] = [None]  # the group for figures: gloo also where gradients go by nccl


class Spread(nn.Module):
    """pixels (B, H, W, C), the same on every rank -> logits (B, K) float32, the same on every rank."""

    def __init__(self, net: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks
        device = next(net.parameters()).device
        ids = [device.index or torch.cuda.current_device()] if device.type == "cuda" else None
        self.net = DistributedDataParallel(net, device_ids=ids, broadcast_buffers=False)

    def forward(self, pixels: Tensor) -> Tensor:
        own = self.net(pixels[self.ranks.part(len(pixels))])
        logits: Tensor = Gathered.apply(own.float(), len(pixels), self.ranks)
        return logits


class Gathered(torch.autograd.Function):
    """The rows of all ranks in their order; the gradient goes back to this rank's own rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, total: int, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.total = ranks, total
        padded = own.new_zeros(-(-total // ranks.num), *own.shape[1:])  # what is sent must have one size
        padded[: len(own)] = own
        everyone = [torch.empty_like(padded) for _ in range(ranks.num)]
        dist.all_gather(everyone, padded)
        sizes = [ranks.part(total, rank) for rank in range(ranks.num)]
        return torch.cat([rows[: size.stop - size.start] for rows, size in zip(everyone, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Every rank holds the gradient of the whole loss, and DistributedDataParallel takes the mean over ranks.
        return gradient[ctx.ranks.part(ctx.total)] * ctx.ranks.num, None, None


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process as torchrun started it: by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT."""
    on_gpus = choose_device(2).type == "cuda"
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
    _talk[0] = dist.new_group(backend="gloo", timeout=PATIENCE) if on_gpus else None
    yield Ranks(rank=dist.get_rank(), num=dist.get_world_size())
    dist.destroy_process_group()  # only after success: a rank that fails must not wait for the others
