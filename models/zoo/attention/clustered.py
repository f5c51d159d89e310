"""A token looks at tokens that are like it: the Routing Transformer, https://arxiv.org/abs/2003.05997.

Each head keeps centroids on the unit sphere. Each takes the queries and the keys that point most nearly its way, the
same number for every centroid, and those queries look at those keys. A query that several centroids take gets the
mean of the answers; one that none takes gets zero, so the layer leaves its token as it is. Centroids follow their
members by a moving average while training, and are fixed in evaluation; where several processes each hold a share of
the batch, they follow the members in all of it.

Departures: every head clusters (theirs do half and half with local attention). A token that is hardly nearer than the
first that was not taken counts little, or rounding would decide which of two goes in, and the exported network answer
otherwise than the trained one. Rows and columns play no part. Extra tokens see all tokens and are seen in every
cluster. Cost: with C clusters of N / C tokens each, N C + N^2 / C; the default C, about the root of N, makes it N
times its root.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.zoo.attention.grid import Grid
from models.zoo.attention.layer import Mix, attend, beside

# B batch, H heads, N tokens, E of them extra, P of the picture, d width of a head, C clusters, M members of a cluster

DECAY = 0.99  # of a centroid, a step; the paper's 0.999 suits longer runs
EDGE = 0.05  # of cosine: a member nearer than the first outsider by this counts fully


class Clustered(Mix):
    centroids: Tensor  # (H, d, C), unit length along d

    def __init__(self, grid: Grid, *, heads: int, width: int, clusters: int | None = None) -> None:
        super().__init__()
        self.extra = grid.extra
        self.added: Callable[[Tensor], Tensor] | None = None  # over all processes: `norms.with_shared_norms` sets it
        self.clusters = min(clusters or max(1, round(grid.patches**0.5)), grid.patches)
        self.members = -(-grid.patches // self.clusters)
        self.register_buffer("centroids", F.normalize(torch.randn(heads, width, self.clusters), dim=1))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        E = self.extra
        queries, keys, values = q[:, :, E:], k[:, :, E:], v[:, :, E:]  # (B, H, P, d)
        with torch.no_grad():
            (asking, shares), (asked, weights) = self._members(queries), self._members(keys)  # each (B, H, C, M)
            if self.training:
                self._follow(queries, asking, keys, asked)
            weights = F.pad(weights.log(), (E, 0)).unsqueeze(3)  # (B, H, C, 1, E + M)
        y = attend(
            self._clusters(queries, asking).flatten(1, 2),
            beside(k[:, :, :E], self._clusters(keys, asked)).flatten(1, 2),
            beside(v[:, :, :E], self._clusters(values, asked)).flatten(1, 2),
            see=weights.flatten(1, 2).to(q.dtype),
        )  # (B, H * C, M, d)
        y = y.reshape(*asking.shape, v.shape[3]).flatten(2, 3)  # (B, H, C * M, d)
        index, shares = asking.flatten(2).unsqueeze(3), shares.flatten(2).unsqueeze(3).to(y.dtype)
        total = torch.zeros_like(queries, dtype=y.dtype).scatter_add(2, index.expand_as(y), y * shares)  # (B, H, P, d)
        y = total / torch.zeros_like(total[..., :1]).scatter_add(2, index, shares).clamp(min=1.0)
        return torch.cat([attend(q[:, :, :E], k, v), y], dim=2) if E else y

    def _members(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, P, d) -> (B, H, C, M): the tokens that each centroid takes, and how much they count, above 0 to 1."""
        near = F.normalize(x.float(), dim=3) @ self.centroids  # (B, H, P, C)
        if self.members == near.shape[2]:
            nearest = near.topk(self.members, dim=2)
            shares = torch.ones_like(nearest.values)
        else:
            nearest = near.topk(self.members + 1, dim=2)
            shares = ((nearest.values - nearest.values[:, :, -1:]) / EDGE)[:, :, :-1].clamp(1e-6, 1.0)
        tokens = nearest.indices[:, :, : self.members]
        return tokens.transpose(2, 3), shares.transpose(2, 3)

    def _clusters(self, x: Tensor, members: Tensor) -> Tensor:
        """(B, H, P, d), (B, H, C, M) -> (B, H, C, M, d)."""
        chosen = x.gather(2, members.flatten(2).unsqueeze(3).expand(-1, -1, -1, x.shape[3]))
        return chosen.view(*members.shape, x.shape[3])

    def _follow(self, queries: Tensor, asking: Tensor, keys: Tensor, asked: Tensor) -> None:
        """Moves each centroid towards the mean direction of its members, in the pictures of all processes."""
        seen = torch.stack([self._clusters(queries, asking), self._clusters(keys, asked)])  # (2, B, H, C, M, d)
        directions, over = F.normalize(seen.float(), dim=5), (0, 1, 4)
        middle = directions.mean(over) if self.added is None else self.added(directions.sum(over))  # of any length
        moved = self.centroids.lerp(F.normalize(middle.transpose(1, 2), dim=1), 1 - DECAY)  # (H, d, C)
        self.centroids.copy_(F.normalize(moved, dim=1))
