"""What all kinds of attention share: heads in front, and behind."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.zoo.attention.rotary import Rotary

# B batch, N tokens (the extra ones first), D width, H heads, d = D / H width of a head


# Up to so many keys the fused attention of torch 2.15, trained in bfloat16 on a CPU, is slower than its steps one by
# one; `benchmarks.attention` has both.
FEW_KEYS = 512


class Mix(nn.Module):
    """How the tokens of a head see one another: (B, H, N, d), as many of them as `inputs` says -> (B, H, N, d)."""

    inputs: ClassVar[int] = 3  # queries, keys and values; a kind that compares no tokens takes fewer


class Attention(nn.Module):
    """(B, N, D) -> the same shape."""

    def __init__(self, dim: int, heads: int, mix: Mix, *, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, mix.inputs * dim)
        self.rotary = rotary
        self.mix = mix
        self.out = nn.Linear(dim, dim)
        for matrix in self.project.weight.chunk(mix.inputs):  # matrices of their own, though one layer computes them
            nn.init.xavier_uniform_(matrix)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape
        parts = self.project(self.norm(x)).view(B, N, self.mix.inputs, self.heads, D // self.heads)
        parts = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, d)
        if self.rotary is not None:
            q, k, v = parts
            parts = (self.rotary(q), self.rotary(k), v)
        y: Tensor = self.out(self.mix(*parts).transpose(1, 2).reshape(B, N, D))
        return y


def attend(q: Tensor, k: Tensor, v: Tensor, *, see: Tensor | None = None) -> Tensor:
    """Softmax attention: queries (B, H, N, d), keys and values (B, H, M, d) -> (B, H, N, d).

    `see`, broadcastable to (B, H, N, M), says which query looks at which key (bool; each must look at one), or is added
    to their scores.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and k.shape[-2] <= FEW_KEYS:
        return step_by_step(q, k, v, see=see)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=see)


def step_by_step(q: Tensor, k: Tensor, v: Tensor, *, see: Tensor | None = None) -> Tensor:
    """`attend`, with all scores in memory at once."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if see is not None:
        if see.dtype == torch.bool:
            see = torch.zeros_like(see, dtype=scores.dtype).masked_fill(~see, -torch.inf)
        scores = scores + see
    y: Tensor = scores.softmax(dim=-1) @ v
    return y


def beside(extra: Tensor, groups: Tensor) -> Tensor:
    """Extra tokens (B, H, E, d) before those of every group (B, H, G, M, d) -> (B, H, G, E + M, d)."""
    if not extra.shape[2]:
        return groups
    return torch.cat([extra.unsqueeze(2).expand(-1, -1, groups.shape[2], -1, -1), groups], dim=3)
