"""LeNet-5, Gradient-Based Learning Applied to Document Recognition, https://doi.org/10.1109/5.726791.

Parameters at 32 x 32 x 1 and ten classes: 61,706. The paper counts 60,000; the difference is that here, as in most of
its descendants, C3 sees all maps of S2 (+900), subsampling is a plain mean (-44), and a linear layer takes the place of
the fixed bitmaps at the end (+850). The squashing function is the paper's, 1.7159 tanh(2x / 3).

Adapted: pictures of 28 to 31 pixels are padded to the paper's field of 32, as its own digits were; under 28 pixels both
first convolutions are padded and so keep the size (8 x 8 becomes 2 x 2 before C5); C5 is fully connected to whatever S4
leaves, so it grows with larger pictures. Under 4 pixels nothing would be left: refused.
"""

import torch
from torch import Tensor, nn

from data.errors import InputError
from data.spec import ImageSpec
from models.zoo.initial import classifier

# B batch, C channels, H height, W width, K classes

FIELD = 32  # the paper's pictures
DIGIT = 28
LEAST = 4


class Squash(nn.Module):
    """1.7159 tanh(2x / 3): 1 stays 1, and there it bends most (the paper's appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class LeNet(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        check_side(image)
        side = min(image.height, image.width)
        first, second = 2 if side < FIELD else 0, 2 if side < DIGIT else 0
        rows, columns = (((n - 4 + 2 * first) // 2 - 4 + 2 * second) // 2 for n in (image.height, image.width))
        self.features = nn.Sequential(
            nn.Conv2d(image.channels, 6, 5, padding=first),  # C1
            Squash(),
            nn.AvgPool2d(2),  # S2
            nn.Conv2d(6, 16, 5, padding=second),  # C3
            Squash(),
            nn.AvgPool2d(2),  # S4: (B, 16, rows, columns), 5 x 5 in the paper
        )
        self.hidden = nn.Sequential(
            nn.Linear(16 * rows * columns, 120),  # C5
            Squash(),
            nn.Linear(120, 84),  # F6
            Squash(),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.head = classifier(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(1)  # (B, 16 * rows * columns)
        logits: Tensor = self.head(self.hidden(x))
        return logits


def check_side(image: ImageSpec) -> None:
    """Raises `InputError`."""
    if min(image.height, image.width) < LEAST:
        raise InputError(
            f"model.kind lenet halves a picture twice, and {image.height} x {image.width} is too small for that; "
            f"set dataset.size to {LEAST} or more"
        )
