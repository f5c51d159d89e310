"""Linformer, https://arxiv.org/abs/2006.04768: a token looks at a few learned mixtures of all tokens.

The mixtures are shared by the heads of a layer; keys have theirs and values theirs. Which token is where is known to
the mixing, by its place in the sequence: rows, columns and a class token need no care. Cost: grows with the number of
tokens.
"""

import torch
from torch import Tensor, nn

from models.zoo.attention.grid import Grid
from models.zoo.attention.layer import Mix, attend

# B batch, H heads, N tokens, R mixtures, d width of a head


class Linformer(Mix):
    def __init__(self, grid: Grid, *, rank: int) -> None:
        super().__init__()
        shape = (min(rank, grid.tokens), grid.tokens)
        self.keys = nn.Parameter(torch.randn(shape) * grid.tokens**-0.5)  # (R, N); a mixture is as large as a token
        self.values = nn.Parameter(torch.randn(shape) * grid.tokens**-0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, self.keys @ k, self.values @ v)  # (B, H, N, d) looks at (B, H, R, d)
