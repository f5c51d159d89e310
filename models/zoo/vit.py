"""A plain Vision Transformer with mean pooling, after https://arxiv.org/abs/2010.11929 and 2205.01580.

Departures: no class token; positions are learned, but start as sines and cosines, since small random ones take long to
say where a patch is (digits, patch 2, 12 epochs of 11 steps, one seed: 0.39 of the validation pictures right, against
0.83); a narrow MLP; and a patch of about an eighth of the picture, so that any picture becomes some 64 tokens.
Weights start as in that paper's own code: matrices after Glorot, the patches after LeCun, biases at zero.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from data.spec import ImageSpec
from models.zoo.config import ViTConfig

# B batch, C channels, P side of a patch, N tokens, D width of a token, H heads, K classes

TOKENS_PER_SIDE = 8
SMALLEST_PATCH = 2  # a single pixel says too little: a token should see an edge


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape
        qkv = self.qkv(self.norm(x)).view(B, N, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, D/H)
        x = F.scaled_dot_product_attention(q, k, v)  # (B, H, N, D/H)
        x = self.out(x.transpose(1, 2).reshape(B, N, D))
        return F.dropout(x, self.dropout, self.training)


class StochasticDepth(nn.Module):
    """Skips a branch for some pictures of a training batch, https://arxiv.org/abs/1603.09382: (B, N, D) -> the same."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.rate
        return x * kept / (1 - self.rate)  # so that its mean is that of evaluation


class MLP(nn.Sequential):
    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )


class Block(nn.Module):
    """(B, N, D) -> the same shape."""

    def __init__(self, config: ViTConfig, *, skip: float) -> None:
        """`skip`: how often each branch is left out in training."""
        super().__init__()
        self.attention = Attention(config.dim, config.heads, config.dropout)
        self.mlp = MLP(config.dim, config.mlp_ratio * config.dim, config.dropout)
        self.skip = StochasticDepth(skip)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.skip(self.attention(x))
        y: Tensor = x + self.skip(self.mlp(x))
        return y


class ViT(nn.Module):
    """Normalised pictures (B, C, height, width) -> logits (B, K)."""

    def __init__(self, config: ViTConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        patch = config.patch or choose_patch(image)
        check_patch(patch, image)
        self.patches = nn.Conv2d(image.channels, config.dim, patch, stride=patch)
        self.positions = nn.Parameter(waves(image.height // patch, image.width // patch, dim=config.dim))
        self.dropout = nn.Dropout(config.dropout)
        skips = torch.linspace(0, config.stochastic_depth, config.depth).tolist()  # the last blocks are missed least
        self.blocks = nn.Sequential(*[Block(config, skip=skip) for skip in skips])
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, num_classes)
        self.apply(start)
        nn.init.normal_(self.head.weight, std=0.01)  # the first guess is close to uniform: loss ln(K)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)  # (B, D, height/P, width/P)
        x = x.flatten(2).transpose(1, 2)  # (B, N, D)
        x = self.blocks(self.dropout(x + self.positions))
        x = self.norm(x).mean(dim=1)  # (B, D)
        logits: Tensor = self.head(x)
        return logits


def start(layer: nn.Module) -> None:
    """First weights; for `Module.apply`, which comes to the parts of a layer before the layer."""
    match layer:
        case nn.Linear():
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        case Attention():
            for matrix in layer.qkv.weight.chunk(3):  # three matrices, though one layer computes them
                nn.init.xavier_uniform_(matrix)
        case nn.Conv2d():
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
        case _:
            pass


def waves(rows: int, columns: int, *, dim: int) -> Tensor:
    """(N, D): sines and cosines of row and column, from one radian a patch to one over the longer side."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    quarter = -(-dim // 4)
    frequencies = max(rows, columns) ** -torch.linspace(0, 1, quarter)
    angles = torch.stack([y, x]).view(2, -1, 1) * frequencies  # (2, N, D/4)
    return torch.cat([*angles.sin(), *angles.cos()], dim=1)[:, :dim].contiguous()


def choose_patch(image: ImageSpec) -> int:
    """The divisor of both sides that is nearest to an eighth of the shorter one; a pixel only if nothing else fits."""
    shorter = min(image.height, image.width)
    wanted = shorter / TOKENS_PER_SIDE
    fitting = [patch for patch in divisors(image) if SMALLEST_PATCH <= patch <= shorter // 2]
    return min(fitting or [1], key=lambda patch: abs(math.log(patch / wanted)))


def check_patch(patch: int, image: ImageSpec) -> None:
    """Raises `InputError`."""
    if image.height % patch or image.width % patch:
        choices = ", ".join(map(str, divisors(image)))
        raise InputError(
            f"model.patch {patch} does not divide a {image.height} x {image.width} picture; use one of {choices}"
        )


def divisors(image: ImageSpec) -> list[int]:
    """Of both sides."""
    side = math.gcd(image.height, image.width)
    return [patch for patch in range(1, side + 1) if side % patch == 0]
