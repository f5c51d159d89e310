"""Linear attention, https://arxiv.org/abs/2006.16236: weights are products f(q) . f(k), so sums come before products.

f is elu + 1 (that paper), relu, or the positive orthogonal random features of Performers, which approximate the
softmax, https://arxiv.org/abs/2009.14794. Rows, columns and a class token are treated alike. Cost: grows with the
number of tokens.
"""

from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from models.zoo.attention.layer import Mix

# B batch, H heads, N tokens, d width of a head, f features

SMALLEST = 1e-6  # of a feature: a token that has none would be divided by zero


class Linear(Mix):
    directions: Tensor  # (d, f) of the random features

    def __init__(
        self, *, width: int, feature_map: Literal["elu", "relu", "random"] = "elu", features: int = 64
    ) -> None:
        super().__init__()
        self.feature_map = feature_map
        if feature_map == "random":
            self.register_buffer("directions", orthogonal(width, features))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = self.features(q, over=(3,)), self.features(k, over=(2, 3))  # (B, H, N, f)
        total = q @ k.sum(dim=2).unsqueeze(3)  # (B, H, N, 1)
        y = q @ (k.transpose(2, 3) @ v) / total  # (B, H, N, d), through (B, H, f, d)
        return y.to(v.dtype)

    def features(self, x: Tensor, *, over: tuple[int, ...]) -> Tensor:
        """(B, H, N, d) -> (B, H, N, f), positive. `over`: axes whose common factor the quotient cancels."""
        match self.feature_map:
            case "elu":
                return F.elu(x) + 1 + SMALLEST  # in this order: of 1 + SMALLEST bfloat16 would leave 1
            case "relu":
                return F.relu(x) + SMALLEST
            case "random":
                x = x * x.shape[3] ** -0.25  # a product of two then has the softmax's scale
                power = x @ self.directions - x.square().sum(3, keepdim=True) / 2
                positive: Tensor = (power - power.detach().amax(over, keepdim=True)).exp() + SMALLEST
                return positive
            case _:
                assert_never(self.feature_map)


def orthogonal(width: int, features: int) -> Tensor:
    """(d, f): directions as of a normal distribution, orthogonal within each d of them."""
    blocks: list[Tensor] = []
    for _ in range(-(-features // width)):
        directions, triangle = torch.linalg.qr(torch.randn(width, width))
        blocks.append(directions * triangle.diagonal().sign())  # whose signs are not random as they come
    lengths: Tensor = torch.linalg.vector_norm(torch.randn(width, features), dim=0)
    return torch.cat(blocks, dim=1)[:, :features] * lengths
