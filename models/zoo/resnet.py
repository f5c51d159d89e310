"""ResNet-18, 34 and 50, https://arxiv.org/abs/1512.03385, with projections where the shape changes (option B).

Parameters at 224 x 224 x 3 and 1,000 classes: 11,689,512, 21,797,672 and 25,557,032, as in torchvision. Like it, a
bottleneck halves the picture in its 3 x 3 convolution, not in the 1 x 1 before it; and the last norm of each block
starts at zero, so that the network starts shallow (https://arxiv.org/abs/1706.02677).

From 64 pixels a side the published form. Below, the stem of 7 x 7 with stride 2 and its pooling, which quarter the
picture, are a convolution of 3 x 3 with stride 1, as in the paper's own networks for CIFAR-10, and a stage that would
leave fewer than 4 pixels a side keeps its size (8 x 8 becomes 4 x 4).
"""

from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.config_classic import ResNetConfig
from models.zoo.initial import classifier, he
from models.zoo.stochastic_depth import StochasticDepth, rates

# B batch, C channels, H height, W width, K classes

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # in each stage
PUBLISHED_SIDE = 64  # from here the published form
LEAST_SIDE = 4  # that a stage leaves, below


def convolution(in_channels: int, out_channels: int, size: int, *, stride: int = 1) -> nn.Sequential:
    """And batch norm, which brings the bias: (B, C, H, W) -> (B, C', H/stride, W/stride)."""
    kernel = nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(kernel, nn.BatchNorm2d(out_channels))


class Block(nn.Module):
    """x + f(x): (B, C, H, W) -> (B, C', H/stride, W/stride)."""

    def __init__(
        self, residual: nn.Sequential, in_channels: int, out_channels: int, *, stride: int, skip: float
    ) -> None:
        """`skip`: how often f is left out in training."""
        super().__init__()
        self.residual = residual
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else convolution(in_channels, out_channels, 1, stride=stride)
        self.relu = nn.ReLU()
        self.skip = StochasticDepth(skip)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.shortcut(x) + self.skip(self.residual(x)))
        return y


def basic(in_channels: int, width: int, *, stride: int, skip: float) -> Block:
    """Two convolutions, for 18 and 34 layers."""
    first, second = convolution(in_channels, width, 3, stride=stride), convolution(width, width, 3)
    return Block(nn.Sequential(first, nn.ReLU(), second), in_channels, width, stride=stride, skip=skip)


def bottleneck(in_channels: int, width: int, *, stride: int, skip: float) -> Block:
    """Three convolutions, the middle one narrow, for 50 layers."""
    down, middle = convolution(in_channels, width, 1), convolution(width, width, 3, stride=stride)
    up = convolution(width, 4 * width, 1)
    residual = nn.Sequential(down, nn.ReLU(), middle, nn.ReLU(), up)
    return Block(residual, in_channels, 4 * width, stride=stride, skip=skip)


class ResNet(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, config: ResNetConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        side, width = min(image.height, image.width), config.width
        block, expansion = (bottleneck, 4) if config.layers == 50 else (basic, 1)
        small = side < PUBLISHED_SIDE
        self.stem = small_stem(image.channels, width) if small else published_stem(image.channels, width)
        blocks: list[nn.Module] = []
        channels = width
        skips = iter(rates(config.stochastic_depth, num=sum(BLOCKS[config.layers])))
        for stage, depth in enumerate(BLOCKS[config.layers]):
            halves = stage > 0 and not (small and (side + 1) // 2 < LEAST_SIDE)
            side = (side + 1) // 2 if halves else side
            for index in range(depth):
                stride = 2 if halves and index == 0 else 1
                blocks.append(block(channels, width * 2**stage, stride=stride, skip=next(skips)))
                channels = expansion * width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        he(self)
        for module in self.blocks:
            nn.init.zeros_(module.residual[-1][1].weight)  # type: ignore[union-attr,index]
        self.head = classifier(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))  # (B, C, H/32, W/32)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def published_stem(channels: int, width: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, width, H/4, W/4)."""
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(convolution(channels, width, 7, stride=2), nn.ReLU(), pool)


def small_stem(channels: int, width: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, width, H, W)."""
    return nn.Sequential(convolution(channels, width, 3), nn.ReLU())
