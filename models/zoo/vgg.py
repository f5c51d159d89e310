"""VGG, https://arxiv.org/abs/1409.1556: configurations A (11), B (13), D (16) and E (19).

Batch norm after each convolution by default; the paper could not have it. Parameters at 224 x 224 x 3 and 1,000
classes, 16 layers: 138,365,992 with it and 138,357,544 without, as in torchvision.

Adapted: under 128 pixels a side the fully connected layers are 512 wide instead of 4,096; under 32 a pooling that would
leave nothing is left out, so 8 x 8 is halved three times; a last map of twice the published 7 x 7 or more is first
averaged in blocks. Weights start after He, since the paper's way, to train A first and start the others from it, is
what that made unnecessary.
"""

from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.config_classic import VGGConfig
from models.zoo.initial import classifier, he

# B batch, C channels, H height, W width, K classes

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # in each stage
WIDTHS = (1, 2, 4, 8, 8)  # of each stage, in first ones
WIDE_SIDE = 128  # from here the fully connected layers are as published
LAST_SIDE = 7  # of the last map, at 224 pixels
HIDDEN, SMALL_HIDDEN = 4096, 512


def convolution(in_channels: int, out_channels: int, *, batch_norm: bool) -> list[nn.Module]:
    """(B, C, H, W) -> (B, C', H, W)."""
    kernel = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return [kernel, nn.BatchNorm2d(out_channels), nn.ReLU()] if batch_norm else [kernel, nn.ReLU()]


class VGG(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, config: VGGConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        rows, columns, channels = image.height, image.width, int(image.channels)
        hidden = config.hidden or (HIDDEN if min(rows, columns) >= WIDE_SIDE else SMALL_HIDDEN)
        layers: list[nn.Module] = []
        for convolutions, wider in zip(CONVOLUTIONS[config.layers], WIDTHS, strict=True):
            for _ in range(convolutions):
                layers += convolution(channels, wider * config.width, batch_norm=config.batch_norm)
                channels = wider * config.width
            if min(rows, columns) > 1:
                layers.append(nn.MaxPool2d(2))
                rows, columns = rows // 2, columns // 2
        block = (max(1, rows // LAST_SIDE), max(1, columns // LAST_SIDE))
        if block != (1, 1):
            layers.append(nn.AvgPool2d(block))
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            nn.Linear(channels * (rows // block[0]) * (columns // block[1]), hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        he(self)
        self.head = classifier(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(1)  # (B, C * rows * columns), 25,088 at 224 pixels
        logits: Tensor = self.head(self.hidden(x))
        return logits
