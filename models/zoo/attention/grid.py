"""Where tokens stand: a grid of rows and columns, and before them the extra ones, which stand nowhere.

Patches are numbered row by row. Extra tokens (a class token, special tokens) come first in every sequence.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# T tiles, S slots of a tile, P patches of the picture, E extra tokens


@dataclass(frozen=True)
class Grid:
    rows: int
    columns: int
    extra: int = 0

    @property
    def patches(self) -> int:
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        return self.extra + self.patches

    @property
    def longer(self) -> int:
        """Side."""
        return max(self.rows, self.columns)

    def places(self) -> Tensor:
        """(P, 2) int64: row and column of each patch."""
        return torch.cartesian_prod(torch.arange(self.rows), torch.arange(self.columns)).view(-1, 2)


def cut(grid: Grid, height: int, width: int, *, halo: int = 0) -> tuple[Tensor, Tensor]:
    """The grid as tiles of height x width patches, each with `halo` more on every side.

    Returns the patch in each slot, (T, S) int64, and whether there is one, (T, S) bool: tiles may stick out of the
    grid, and a slot outside it holds patch 0.
    """
    tops = torch.arange(0, grid.rows, height) - halo
    lefts = torch.arange(0, grid.columns, width) - halo
    rows = tops[:, None] + torch.arange(height + 2 * halo)  # (tiles down, slots down)
    columns = lefts[:, None] + torch.arange(width + 2 * halo)
    row, column = rows[:, None, :, None], columns[None, :, None, :]  # (tiles down, across, slots down, across)
    inside = (row >= 0) & (row < grid.rows) & (column >= 0) & (column < grid.columns)
    patch = torch.where(inside, row * grid.columns + column, 0)
    tiles = len(tops) * len(lefts)
    return patch.reshape(tiles, -1), inside.reshape(tiles, -1)


def slots_of(patch: Tensor, inside: Tensor) -> Tensor:
    """The way back from tiles without halo: (P,) int64, the slot that each patch is in, counted through all tiles."""
    slot = torch.arange(patch.numel()).view_as(patch)[inside]
    return slot[patch[inside].argsort()]
