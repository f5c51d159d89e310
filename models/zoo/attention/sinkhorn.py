"""Sparse Sinkhorn attention, https://arxiv.org/abs/2002.11296.

The picture is cut into tiles, rows and columns alike, and a tile looks at itself and at a second tile: a mixture of
all, by a matrix that a small network makes from the tiles' mean keys and Sinkhorn's iteration balances, so that every
tile is used as much as any other. With a sharp matrix this is a sorting of the tiles.

Departures: no Gumbel noise, so that the same picture gets the same matrix. The tiles must be equal, so their number
along a side divides it. Extra tokens see all tokens, are seen by all, and are not sorted. Cost: a tile of S tokens
looks at 2 S, and mixing T tiles takes N T; the default, about the root of each side, makes it N times its root.
"""

import math

import torch
from torch import Tensor, nn

from data.errors import InputError
from models.zoo.attention.grid import Grid, cut, slots_of
from models.zoo.attention.layer import Mix, attend, beside

# B batch, H heads, N tokens, E of them extra, P of the picture, d width of a head, T tiles, S tokens of a tile

TEMPERATURE = 0.75  # the paper's; lower is sharper


class Sinkhorn(Mix):
    slots: Tensor  # (P,) patch in each slot, tile after tile
    home: Tensor  # (P,) slot of each patch

    def __init__(self, grid: Grid, *, heads: int, width: int, buckets: int | None = None, iterations: int = 8) -> None:
        """Raises `InputError` where `buckets` does not divide the sides of the grid."""
        super().__init__()
        self.extra, self.iterations = grid.extra, iterations
        down, across = (choose(grid.rows), choose(grid.columns)) if buckets is None else (buckets, buckets)
        if grid.rows % down or grid.columns % across:
            choices = ", ".join(map(str, divisors(math.gcd(grid.rows, grid.columns))))
            raise InputError(
                f"model.attention.buckets {buckets} does not cut {grid.rows} x {grid.columns} tokens into equal "
                f"tiles; use one of {choices}"
            )
        patch, inside = cut(grid, grid.rows // down, grid.columns // across)
        self.tiles = len(patch)
        self.sort = nn.Parameter(torch.randn(heads, width, self.tiles) * width**-0.5)  # mean key -> where it belongs
        self.register_buffer("slots", patch.flatten() + grid.extra, persistent=False)
        self.register_buffer("home", slots_of(patch, inside), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        E = self.extra
        queries, keys, values = self._tiles(q), self._tiles(k), self._tiles(v)  # (B, H, T, S, d)
        order = balance(keys.mean(dim=3) @ self.sort / TEMPERATURE, self.iterations)  # (B, H, T, T)
        keys, values = both(k[:, :, :E], keys, order), both(v[:, :, :E], values, order)
        y = attend(queries.flatten(1, 2), keys, values)  # (B, H * T, S, d)
        y = y.reshape(queries.shape).flatten(2, 3).index_select(2, self.home)  # (B, H, P, d)
        return torch.cat([attend(q[:, :, :E], k, v), y], dim=2) if E else y

    def _tiles(self, x: Tensor) -> Tensor:
        """(B, H, N, d) -> (B, H, T, S, d)."""
        B, H, _, d = x.shape
        return x.index_select(2, self.slots).view(B, H, self.tiles, self.slots.shape[0] // self.tiles, d)


def both(extra: Tensor, x: Tensor, order: Tensor) -> Tensor:
    """A tile of x (B, H, T, S, d), and the one sorted into its place, each with the extra tokens (B, H, E, d).

    -> (B, H * T, 2 (E + S), d)
    """
    moved = (order @ x.flatten(3)).view(x.shape).to(x.dtype)  # (B, H, T, S, d)
    return torch.cat([beside(extra, x), beside(extra, moved)], dim=3).flatten(1, 2)


def balance(scores: Tensor, iterations: int) -> Tensor:
    """Any matrices (..., T, T) -> positive ones whose rows and columns sum to 1; the columns exactly."""
    scores = scores.float()
    for _ in range(iterations):
        scores = scores - scores.logsumexp(dim=-1, keepdim=True)
        scores = scores - scores.logsumexp(dim=-2, keepdim=True)
    return scores.exp()


def choose(side: int) -> int:
    """The divisor nearest to the root; of two as near, the smaller."""
    return min(divisors(side), key=lambda tiles: (round(abs(math.log(tiles / side**0.5)), 6), tiles))


def divisors(side: int) -> list[int]:
    return [tiles for tiles in range(1, side + 1) if side % tiles == 0]
