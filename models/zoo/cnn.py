"""A small residual network, the default: as much accuracy as a CPU second buys on pictures of 8 to 224 pixels.

After ResNet, https://arxiv.org/abs/1512.03385, with the last norm of each block starting at zero, so that the network
starts shallow (https://arxiv.org/abs/1706.02677). Departures: the shape changes only between stages, in a convolution
that is max-pooled (a strided one costs a fifth less and several points on photographs), so every shortcut is the
identity and no projection is needed; the number of stages follows from the size of the picture; of four stages the
third has a block more and the first one fewer; the last stage is pooled by a generalised mean
(https://arxiv.org/abs/1711.02512, with its power fixed), with which photographs are learnt faster.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.config import CNNConfig
from models.zoo.stochastic_depth import StochasticDepth, rates

# B batch, C channels, H height, W width, K classes

STEM_SIDE = 48  # the stem halves larger pictures, at most twice, before the first stage
LAST_SIDE = 4  # stages are added until the picture is about this small
MOST_STAGES = 4
POWER = 3.0  # of the generalised mean; 1 is the mean, infinity the maximum


class Convolution(nn.Module):
    """3 x 3 convolution and batch norm, which brings the bias: (B, C, H, W) -> (B, C', H/stride, W/stride)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.kernel(x))
        return y


class Block(nn.Module):
    """(B, C, H, W) -> the same shape; the identity at the start of training."""

    def __init__(self, channels: int, *, skip: float = 0.0) -> None:
        """`skip`: how often the convolutions are left out in training."""
        super().__init__()
        self.first = Convolution(channels, channels)
        self.second = Convolution(channels, channels)
        self.skip = StochasticDepth(skip)
        nn.init.zeros_(self.second.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        return torch.relu(x + self.skip(self.second(y)))


class CNN(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, config: CNNConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        halvings, stages = plan(min(image.height, image.width))
        width = config.width
        layers: list[nn.Module] = []
        for channels, stride in stem(image.channels, width, halvings):
            layers += [Convolution(channels, width, stride=stride), nn.ReLU()]
        blocks_in_stages = blocks_of(stages, config)
        skips = iter(rates(config.stochastic_depth, num=sum(blocks_in_stages)))
        for stage, blocks in enumerate(blocks_in_stages):
            if stage:
                layers += [Convolution(width, 2 * width), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
                width *= 2
            layers += [Block(width, skip=next(skips)) for _ in range(blocks)]
        self.features = nn.Sequential(*layers)
        self.pool = {"gem": generalised_mean, "mean": mean}[config.pool]
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(width, num_classes)
        nn.init.normal_(self.head.weight, std=0.01)  # the first guess is close to uniform: loss ln(K)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, C, H, W), H and W about LAST_SIDE
        x = self.pool(x)  # (B, C)
        logits: Tensor = self.head(self.dropout(x))
        return logits


def mean(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C)."""
    return x.mean(dim=(2, 3))


def generalised_mean(x: Tensor) -> Tensor:
    """(B, C, H, W), none negative -> (B, C), the POWER-th root of the mean of the POWER-th powers, in float32."""
    return x.float().clamp(min=1e-4).pow(POWER).mean(dim=(2, 3)).pow(1 / POWER)  # the root of 0 has no slope


def plan(side: int) -> tuple[int, int]:
    """How often the stem halves a picture of this side, and how many stages follow."""
    halvings = 0
    while side > STEM_SIDE and halvings < 2:
        side, halvings = (side + 1) // 2, halvings + 1
    stages = 1
    while side > LAST_SIDE and stages < MOST_STAGES:
        side, stages = (side + 1) // 2, stages + 1
    return halvings, stages


def blocks_of(stages: int, config: CNNConfig) -> list[int]:
    """Of each stage. A block costs the same arithmetic in every stage, and is worth more where channels are many."""
    blocks = [config.depth] * stages
    if config.blocks == "late" and stages == MOST_STAGES:
        blocks[0] -= 1
        blocks[2] += 1
    return blocks


def stem(channels: int, width: int, halvings: int) -> Iterator[tuple[int, int]]:
    """(channels in, stride) of each convolution before the first stage."""
    yield channels, 2 if halvings else 1
    for _ in range(halvings - 1):
        yield width, 2
