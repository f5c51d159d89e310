"""Global attention: a token of the picture looks at itself and at special tokens, and these look at everything.

The star of https://arxiv.org/abs/1902.09113 and the global tokens of ETC, https://arxiv.org/abs/2004.08483, without
their local window (`local` is that). The special tokens are learned, and what one layer writes into them the next
reads. Rows and columns play no part; a class token is one more special token. Cost: grows with the number of tokens.
"""

import torch
from torch import Tensor

from models.zoo.attention.grid import Grid
from models.zoo.attention.layer import Mix, attend

# B batch, H heads, N tokens, E of them extra: class and special tokens, P of the picture, d width of a head


class Special(Mix):
    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.extra = grid.extra

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        E = self.extra
        centre = attend(q[:, :, :E], k, v)  # (B, H, E, d)
        queries, keys, values = q[:, :, E:], k[:, :, E:], v[:, :, E:]  # (B, H, P, d)
        itself = (queries * keys).sum(3, keepdim=True)  # (B, H, P, 1)
        scores = torch.cat([queries @ k[:, :, :E].transpose(2, 3), itself], dim=3)  # (B, H, P, E + 1)
        weights = (scores * q.shape[-1] ** -0.5).softmax(dim=3)
        y = weights[..., :E] @ v[:, :, :E] + weights[..., E:] * values
        return torch.cat([centre, y.to(centre.dtype)], dim=2)  # (B, H, N, d)
