"""Synthesizer, https://arxiv.org/abs/2005.00743: attention weights that compare no tokens.

`Dense`: a token alone, through two layers, says how much it looks at each place; the first layer is the projection
that makes queries elsewhere. `Fixed`, the paper's random synthesizer: a learned matrix, the same for every picture.
The weights are tied to places in the sequence, so rows, columns and a class token are told apart by learning. Cost:
the square of the number of tokens.
"""

import torch
from torch import Tensor, nn

from models.zoo.attention.grid import Grid
from models.zoo.attention.layer import Mix

# B batch, H heads, N tokens, d width of a head


class Dense(Mix):
    inputs = 2  # hidden layer and values

    def __init__(self, grid: Grid, *, heads: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(heads, width, grid.tokens) * (2 / width) ** 0.5)  # after He
        self.bias = nn.Parameter(torch.zeros(heads, 1, grid.tokens))

    def forward(self, hidden: Tensor, v: Tensor) -> Tensor:
        scores = hidden.relu() @ self.weight + self.bias  # (B, H, N, N)
        y: Tensor = scores.softmax(dim=3).to(v.dtype) @ v
        return y


class Fixed(Mix):
    inputs = 1  # values

    def __init__(self, grid: Grid, *, heads: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.randn(heads, grid.tokens, grid.tokens))

    def forward(self, v: Tensor) -> Tensor:
        return torch.einsum("hnm,bhmd->bhnd", self.scores.softmax(dim=2).to(v.dtype), v)
