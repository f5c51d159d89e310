"""Every token looks at every token, https://arxiv.org/abs/1706.03762.

Rows and columns play no part, and a class token is a token like any other. Cost: the square of the number of tokens.
"""

from torch import Tensor

from models.zoo.attention.layer import Mix, attend


class Full(Mix):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v)  # (B, H, N, d)
