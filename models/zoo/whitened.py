"""A network for tens of thousands of small pictures in a few epochs: its first layer is computed, not learnt.

After airbench, https://arxiv.org/abs/2404.00498, and its sources named there. The first layer is a frozen convolution
that whitens patches of 2 x 2 pixels (each principal component of the training pictures' patches, scaled to variance 1,
and its negative), with a bias that learns. Then three groups of two 3 x 3 convolutions and GELU, halved by max pooling
within the group; batch norms shift but do not scale, the scales stay 1; the first kernels of each convolution start as
the identity; the last map is pooled by its maximum. 1,972,792 parameters at 32 x 32 x 3 and ten classes, the frozen
ones among them, counted by hand from airbench's layers.

Departures: batch norm averages its statistics over ten steps, as torch does, and not over two or three; the whitening's
bias learns until the end, and not for three epochs; on pictures of other sizes than 32 a pooling that would leave
nothing is left out.

The whitening is measured on training pictures by `Whitened.whiten`, which `build.start_from` calls before training; it
is a weight like any other from then on, so it travels in checkpoints, run folders and exported graphs.
"""

import torch
from torch import Tensor, nn

from data.errors import InputError
from data.loader import sent
from data.spec import ImageSpec
from models.zoo.config import WhitenedConfig

# B batch, C channels, H height, W width, K classes

SIDE = 2  # of a whitened patch, pixels
FLOOR = 5e-4  # added to the variances: what hardly varies is not blown up into noise
WIDER = 4  # the later groups, in widths of the first
CHUNK = 256  # pictures whose patches are held at once


class FixedScaleNorm(nn.BatchNorm2d):
    """Batch norm whose scales stay 1; (B, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight.requires_grad_(False)


class Group(nn.Module):
    """(B, C, H, W) -> (B, C', H // 2, W // 2), or H and W as they are if not pooled."""

    def __init__(self, in_channels: int, out_channels: int, *, pooled: bool) -> None:
        super().__init__()
        self.first = convolution(in_channels, out_channels)
        self.pool = nn.MaxPool2d(2) if pooled else nn.Identity()
        self.first_norm = FixedScaleNorm(out_channels)
        self.second = convolution(out_channels, out_channels)
        self.second_norm = FixedScaleNorm(out_channels)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.first_norm(self.pool(self.first(x))))
        y: Tensor = self.activation(self.second_norm(self.second(x)))
        return y


class Whitened(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, config: WhitenedConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        side = min(image.height, image.width) - (SIDE - 1)
        if side < 1:
            raise InputError(
                f"model.kind whitened compares pixels with their neighbours, which a picture of {image.height} x "
                f"{image.width} has not; set dataset.size to {SIDE} or more, or use another model.kind"
            )
        channels = 2 * SIDE**2 * int(image.channels)
        self.whitening = nn.Conv2d(int(image.channels), channels, SIDE)
        self.whitening.weight.requires_grad_(False)
        nn.init.zeros_(self.whitening.bias)  # type: ignore[arg-type]
        layers: list[nn.Module] = [nn.GELU()]
        for width in (config.width, WIDER * config.width, WIDER * config.width):
            layers.append(Group(channels, width, pooled=side > 1))
            channels, side = width, max(1, side // 2)
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes, bias=False)
        self.scale = config.scale
        nn.init.normal_(self.head.weight, std=1 / (channels * config.scale))  # small logits, whatever the scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.whitening(x)).amax(dim=(2, 3))  # (B, C)
        logits: Tensor = self.head(x) * self.scale
        return logits

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Normalised training pictures (B, C, H, W) -> the first layer's kernels. A GPU is waited for once."""
        self.whitening.weight.copy_(sent(whitening_kernels(x), x.device))


def convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Hands on its input, as far as there are channels for it; the other kernels start at random."""
    layer = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[:in_channels])
    return layer


def whitening_kernels(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) -> kernels (2 * C * SIDE**2, C, SIDE, SIDE), by rising variance, then their negatives; on
    the CPU, which knows the eigenvectors of so small a matrix before a GPU has begun.

    Of what each kernel sees, the mean square is 1, and no two of the first half go together.
    """
    C = x.shape[1]
    values, vectors = torch.linalg.eigh(mean_squares(x).cpu())  # columns
    kernels = (vectors / (values.clamp(min=0) + FLOOR).sqrt()).T.reshape(-1, C, SIDE, SIDE)
    return torch.cat([kernels, -kernels]).to(x.dtype)


def mean_squares(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) -> (D, D) float64, D = C * SIDE**2: mean products of what a kernel sees, over all places.

    Products are summed in float32 within a picture, where few are, and in float64 over all pictures: GPUs for graphics
    have hardly any float64, and one product per picture keeps all of a GPU busy, where one of all has nothing to share.
    """
    D, places = x.shape[1] * SIDE**2, 0
    squares = torch.zeros(D, D, dtype=torch.float64, device=x.device)
    for some in torch.split(x, CHUNK):
        patches = some.unfold(2, SIDE, 1).unfold(3, SIDE, 1)  # (b, C, H - 1, W - 1, SIDE, SIDE)
        seen = patches.permute(0, 1, 4, 5, 2, 3).reshape(len(some), D, -1)  # F.unfold would do one picture at a time
        squares += (seen @ seen.mT).sum(0, dtype=torch.float64)
        places += len(seen) * seen.shape[2]
    return squares / places
