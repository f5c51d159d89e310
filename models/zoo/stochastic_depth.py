"""Stochastic depth, https://arxiv.org/abs/1603.09382: in training, branches of a residual network are left out."""

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Skips a branch for some pictures of a training batch: (B, ...) -> the same shape."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)  # so that its mean is that of evaluation


def rates(last: float, *, num: int) -> list[float]:
    """Of so many blocks, in proportion to their depth; `last` is that of the last one."""
    return [last * block / num for block in range(1, num + 1)]
