"""AlexNet in its one-column form, https://arxiv.org/abs/1404.5997 (the original: https://papers.nips.cc/paper/4824).

Parameters at 224 x 224 x 3 and 1,000 classes: 61,100,840, as in torchvision, whose fourth convolution has 256 channels
(the paper says 384) and which leaves out local response normalisation.

From 128 pixels a side the published form. Below, its stem of 11 x 11 with stride 4 and three poolings would leave too
little: from 64 the stem is 7 x 7 with stride 2, under 64 it is 5 x 5 with stride 1, the poolings are padded, so that
they halve (32 x 32 becomes 4 x 4, 8 x 8 becomes 1 x 1), and the fully connected layers are 512 wide. A last map of
twice the published 6 x 6 or more is first averaged in blocks. Weights start after He instead of the paper's 0.01, with
which a network of this depth hardly starts.
"""

from typing import NamedTuple

from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.config_classic import AlexNetConfig
from models.zoo.initial import classifier, he

# B batch, C channels, H height, W width, K classes

PUBLISHED_SIDE = 128  # from here the published form
HALVED_SIDE = 64
LAST_SIDE = 6  # of the last map, at 224 pixels
HIDDEN, SMALL_HIDDEN = 4096, 512


class Stem(NamedTuple):
    kernel: int
    stride: int
    padding: int
    pool_padding: int


def stem(side: int) -> Stem:
    """For pictures of this shorter side."""
    if side >= PUBLISHED_SIDE:
        return Stem(kernel=11, stride=4, padding=2, pool_padding=0)
    if side >= HALVED_SIDE:
        return Stem(kernel=7, stride=2, padding=3, pool_padding=1)
    return Stem(kernel=5, stride=1, padding=2, pool_padding=1)


def last_side(side: int, plan: Stem) -> int:
    """What the features leave of a side: 6 of 224."""
    side = (side + 2 * plan.padding - plan.kernel) // plan.stride + 1
    for _ in range(3):
        side = (side + 2 * plan.pool_padding - 3) // 2 + 1
    return side


class AlexNet(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, config: AlexNetConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        side, width = min(image.height, image.width), config.width
        plan = stem(side)
        rows, columns = last_side(image.height, plan), last_side(image.width, plan)
        block = (max(1, rows // LAST_SIDE), max(1, columns // LAST_SIDE))
        hidden = config.hidden or (HIDDEN if side >= PUBLISHED_SIDE else SMALL_HIDDEN)
        self.features = nn.Sequential(
            nn.Conv2d(image.channels, width, plan.kernel, stride=plan.stride, padding=plan.padding),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=plan.pool_padding),
            nn.Conv2d(width, 3 * width, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=plan.pool_padding),
            nn.Conv2d(3 * width, 6 * width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6 * width, 4 * width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4 * width, 4 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=plan.pool_padding),
            nn.AvgPool2d(block) if block != (1, 1) else nn.Identity(),
        )
        self.hidden = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(4 * width * (rows // block[0]) * (columns // block[1]), hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        he(self)
        self.head = classifier(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(1)  # (B, C * rows * columns), 9,216 at 224 pixels
        logits: Tensor = self.head(self.hidden(x))
        return logits
