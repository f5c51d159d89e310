"""A token looks at its own tile of stride x stride tokens, and at its own place in every other tile.

The strided pattern of Sparse Transformers, https://arxiv.org/abs/1904.10509, on a grid: theirs runs over a row of
tokens, here rows and columns are both cut and both strided, and one softmax goes over the two sets of keys, so that
two layers connect any two tokens. Extra tokens see all tokens and are seen by all. Cost: with stride s each of N
tokens looks at s^2 + N / s^2 others; the default s, about the fourth root of N, makes it N times its root.
"""

import torch
from torch import Tensor

from models.zoo.attention.grid import Grid, cut, slots_of
from models.zoo.attention.layer import Mix, attend

# B batch, H heads, N tokens, E of them extra, P patches, d width of a head, T tiles, S slots of a tile


class Strided(Mix):
    slots: Tensor  # (T * S,) token in each slot
    see: Tensor  # (T, S, S + T + E): own tile, own place in each tile, extra tokens
    home: Tensor  # (P,) slot of each patch

    def __init__(self, grid: Grid, *, stride: int | None = None) -> None:
        super().__init__()
        self.extra = grid.extra
        side = min(stride or max(1, round(grid.patches**0.25)), grid.longer)
        patch, inside = cut(grid, side, side)
        T, S = self.shape = tuple(patch.shape)
        near = inside[:, None, :].expand(T, S, S)
        far = inside.T[None].expand(T, S, T) & ~torch.eye(T, dtype=torch.bool)[:, None]  # itself is in its tile
        see = torch.cat([near, far, torch.ones(T, S, grid.extra, dtype=torch.bool)], dim=2)
        self.register_buffer("slots", (patch + grid.extra).flatten(), persistent=False)
        self.register_buffer("see", see, persistent=False)
        self.register_buffer("home", slots_of(patch, inside), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        (T, S), E = self.shape, self.extra
        queries, keys, values = self._tiles(q), self._tiles(k), self._tiles(v)  # (B, H, T, S, d)
        near = queries @ keys.transpose(3, 4)  # (B, H, T, S, S)
        far = turned(turned(queries) @ turned(keys).transpose(3, 4))  # (B, H, T, S, T)
        extra = [queries @ k[:, :, None, :E].transpose(3, 4)] if E else []  # (B, H, T, S, E)
        scores = torch.cat([near, far, *extra], dim=4) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~self.see, -torch.inf).softmax(dim=4).to(v.dtype)
        near, far = weights[..., :S], weights[..., S : S + T]
        y = near @ values + turned(turned(far) @ turned(values))  # (B, H, T, S, d)
        if E:
            y = y + weights[..., S + T :] @ v[:, :, None, :E]
        y = y.flatten(2, 3).index_select(2, self.home)  # (B, H, P, d)
        return torch.cat([attend(q[:, :, :E], k, v), y], dim=2) if E else y

    def _tiles(self, x: Tensor) -> Tensor:
        """(B, H, N, d) -> (B, H, T, S, d)."""
        B, H, _, d = x.shape
        return x.index_select(2, self.slots).view(B, H, *self.shape, d)


def turned(x: Tensor) -> Tensor:
    """(B, H, T, S, ...) <-> (B, H, S, T, ...)."""
    return x.transpose(2, 3)
