"""Rotary positions, https://arxiv.org/abs/2104.09864, on a grid: half of a head's channels turn with the row, half
with the column (axial, as in https://arxiv.org/abs/2403.13298, whose base of 100 is used).

The product of a turned query and a turned key depends on how many rows and columns lie between them, not on where
they are. Extra tokens stand nowhere and are not turned.
"""

import torch
from torch import Tensor, nn

from models.zoo.attention.grid import Grid

# B batch, H heads, N tokens, d width of a head

BASE = 100.0


class Rotary(nn.Module):
    """(B, H, N, d) -> the same shape; d is a multiple of 4."""

    cosine: Tensor  # (N, d/2)
    sine: Tensor

    def __init__(self, grid: Grid, width: int) -> None:
        super().__init__()
        quarter = width // 4
        frequencies = BASE ** (-torch.arange(quarter) / quarter)  # radians a token
        angles = grid.places().unsqueeze(2) * frequencies  # (P, 2, d/4)
        angles = torch.cat([torch.zeros(grid.extra, width // 2), angles.flatten(1)])
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)  # the planes are channels i and i + d/2
        turned = torch.cat([a * self.cosine - b * self.sine, a * self.sine + b * self.cosine], dim=-1)
        return turned.to(x.dtype)
