"""A token looks at a square window of the picture around it, https://arxiv.org/abs/1906.05909.

Computed as in HaloNet, https://arxiv.org/abs/2103.12731: the queries of a tile look together at the tile and a halo
around it, which is a matrix product; a mask then leaves each its own window. Where that would be more work than the
square of the tokens, a mask over all of them does the same. At the border a window is cut off, not moved. Extra tokens
see all tokens and are seen by all. Cost: grows with the number of tokens.
"""

import torch
from torch import Tensor

from models.zoo.attention.grid import Grid, cut, slots_of
from models.zoo.attention.layer import Mix, attend

# B batch, H heads, N tokens, E of them extra, P patches, d width of a head, T tiles, S slots of a tile, M with halo

FETCH = 16  # what it costs to fetch a key for a tile, in products of a query and a key


class Local(Mix):
    queries: Tensor  # (T * S,) token in each slot
    keys: Tensor  # (T * (E + M),) tokens that a tile sees
    see: Tensor  # (H * T, S, E + M)
    home: Tensor  # (P,) slot of each patch

    def __init__(self, grid: Grid, *, heads: int, window: int) -> None:
        super().__init__()
        self.extra, self.heads = grid.extra, heads
        reach = min(window // 2, grid.longer - 1)
        side, halo = choose_tile(grid, reach)
        height, width = min(side, grid.rows), min(side, grid.columns)
        queries, is_query = cut(grid, height, width)
        keys, is_key = cut(grid, height, width, halo=halo)
        places = grid.places()
        apart = (places[queries][:, :, None] - places[keys][:, None]).abs().amax(-1)  # (T, S, M)
        near = (apart <= reach) & is_key[:, None]
        near |= ~is_query[:, :, None]  # a slot outside the grid looks at anything, and nobody looks at its answer
        self.tiles = len(queries)
        extra = torch.arange(grid.extra).expand(self.tiles, -1)
        see = torch.cat([torch.ones(*queries.shape, grid.extra, dtype=torch.bool), near], dim=2)
        self.register_buffer("queries", (queries + grid.extra).flatten(), persistent=False)
        self.register_buffer("keys", torch.cat([extra, keys + grid.extra], dim=1).flatten(), persistent=False)
        self.register_buffer("see", see.repeat(heads, 1, 1), persistent=False)
        self.register_buffer("home", slots_of(queries, is_query), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = attend(self._tiles(q, self.queries), self._tiles(k, self.keys), self._tiles(v, self.keys), see=self.see)
        B, _, slots, d = y.shape
        y = y.reshape(B, self.heads, self.tiles * slots, d).index_select(2, self.home)  # (B, H, P, d)
        if not self.extra:
            return y
        return torch.cat([attend(q[:, :, : self.extra], k, v), y], dim=2)  # (B, H, N, d)

    def _tiles(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, H, N, d) -> (B, H * T, slots, d)."""
        B, H, _, d = x.shape
        return x.index_select(2, tokens).view(B, H * self.tiles, tokens.shape[0] // self.tiles, d)


def choose_tile(grid: Grid, reach: int) -> tuple[int, int]:
    """Side and halo of the tiles that are the least work; the whole grid is a tile without a halo."""

    def work(side: int) -> int:
        tiles = -(-grid.rows // side) * -(-grid.columns // side)
        return tiles * (side + 2 * reach) ** 2 * (side**2 + FETCH)

    side = min(range(1, grid.longer + 1), key=work)
    return (side, reach) if work(side) < grid.patches**2 else (grid.longer, 0)
