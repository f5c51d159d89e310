"""The Transformer that `vit` and `conv_vit` share: tokens on a grid -> logits, after https://arxiv.org/abs/2010.11929.

Blocks normalise first. Departures: learned positions start as sines and cosines, since small random ones take long to
say where a patch is (digits, patch 2, 12 epochs of 11 steps, one seed: 0.39 of the validation pictures right, against
0.83). Weights start as in that paper's own code: matrices after Glorot, biases at zero.
"""

from typing import assert_never

import torch
from torch import Tensor, nn

from models.zoo.attention.build import build_mix, special_tokens
from models.zoo.attention.grid import Grid
from models.zoo.attention.layer import Attention
from models.zoo.attention.rotary import Rotary
from models.zoo.config_transformer import TransformerConfig
from models.zoo.stochastic_depth import StochasticDepth, rates

# B batch, P tokens of the picture, E extra ones, N = E + P, D width of a token, K classes


class MLP(nn.Sequential):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)


class Block(nn.Module):
    """(B, N, D) -> the same shape."""

    def __init__(self, attention: Attention, mlp: MLP, *, dropout: float, skip: float) -> None:
        """`skip`: how often each branch is left out in training."""
        super().__init__()
        self.attention = attention
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)
        self.skip = StochasticDepth(skip)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.skip(self.dropout(self.attention(x)))
        y: Tensor = x + self.skip(self.dropout(self.mlp(x)))
        return y


class SequencePool(nn.Module):
    """A mean whose weights each token decides, https://arxiv.org/abs/2104.05704: (B, P, D) -> (B, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(dim, 1, bias=False)  # the softmax would not see a bias
        nn.init.zeros_(self.weigh.weight)  # the plain mean at first

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.weigh(x).softmax(dim=1)  # (B, P, 1)
        return (x * weights).sum(dim=1)


class Transformer(nn.Module):
    """Tokens on a grid (B, D, rows, columns) -> logits (B, K)."""

    positions: Tensor | None  # (P, D)

    def __init__(self, config: TransformerConfig, rows: int, columns: int, num_classes: int) -> None:
        """Raises `InputError` where the attention does not fit the grid."""
        super().__init__()
        dim, heads, width = config.dim, config.heads, config.dim // config.heads
        specials = special_tokens(config.attention)
        self.grid = Grid(rows, columns, extra=specials + (config.pool == "token"))
        self.pool = config.pool
        match config.position:
            case "learned":
                self.positions = nn.Parameter(waves(self.grid, dim=dim))
            case "sinusoidal":
                self.register_buffer("positions", waves(self.grid, dim=dim), persistent=False)
            case "rotary" | "none":
                self.positions = None
            case _:
                assert_never(config.position)
        rotary = Rotary(self.grid, width) if config.position == "rotary" else None
        self.extra = nn.Parameter(0.02 * torch.randn(self.grid.extra, dim)) if self.grid.extra else None
        self.dropout = nn.Dropout(config.dropout)
        blocks = []
        for skip in rates(config.stochastic_depth, num=config.depth):
            mix = build_mix(config.attention, self.grid, heads=heads, width=width)
            attention, mlp = Attention(dim, heads, mix, rotary=rotary), MLP(dim, config.mlp_ratio * dim)
            blocks.append(Block(attention, mlp, dropout=config.dropout, skip=skip))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(dim)
        self.sequence_pool = SequencePool(dim) if config.pool == "sequence" else None
        self.head = nn.Linear(dim, num_classes)
        nn.init.normal_(self.head.weight, std=0.01)  # the first guess is close to uniform: loss ln(K)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)  # (B, P, D)
        if self.positions is not None:
            x = x + self.positions
        if self.extra is not None:
            x = torch.cat([self.extra.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)  # (B, N, D)
        x = self.norm(self.blocks(self.dropout(x)))
        logits: Tensor = self.head(self.pooled(x))
        return logits

    def pooled(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, D); special tokens are not looked at."""
        if self.pool == "token":
            return x[:, 0]
        x = x[:, self.grid.extra :]
        if self.sequence_pool is None:
            return x.mean(dim=1)
        y: Tensor = self.sequence_pool(x)
        return y


def waves(grid: Grid, *, dim: int) -> Tensor:
    """(P, D): sines and cosines of row and column, from one radian a patch to one over the longer side."""
    quarter = -(-dim // 4)
    frequencies = grid.longer ** -torch.linspace(0, 1, quarter)
    angles = grid.places().T.unsqueeze(2) * frequencies  # (2, P, D/4)
    return torch.cat([*angles.sin(), *angles.cos()], dim=1)[:, :dim].contiguous()
