"""A Spatial Transformer, https://arxiv.org/abs/1506.02025, in front of this project's small residual network.

A localisation network looks at the picture and says from where each pixel is to be taken: an affine map, which starts
as the identity. What lies outside the picture is zero, which after normalisation is its mean colour. The localisation
network halves the picture as long as 4 pixels a side are left, so any size from 4 pixels to 224 and beyond is taken.

The grid is written out in plain sums: `affine_grid` would compute positions in bfloat16 where training does, whose 8
bits are less than a pixel of a large picture. `grid_sample` exports as ONNX's GridSample with a dynamic batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.cnn import CNN
from models.zoo.config import CNNConfig
from models.zoo.config_classic import STNConfig
from models.zoo.initial import he

# B batch, C channels, H height, W width, K classes

CHANNELS = 16  # of the localisation network
HIDDEN = 32
LEAST_SIDE = 4


class Pose(nn.Module):
    """(B, HIDDEN) -> affine maps (B, 2, 3), float32, the identity at the start of training.

    No `nn.Linear`: Muon would take that for an inner layer and turn all six numbers equally fast, noise or not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, HIDDEN))
        self.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        moved = F.linear(x, self.weight).float() + self.bias
        return moved.view(-1, 2, 3)


class Transformer(nn.Module):
    """(B, C, H, W) -> the same shape, moved, turned, scaled or sheared."""

    centres: Tensor  # (H, W, 2): x and y of the pixels' centres, -1 and 1 at the picture's borders

    def __init__(self, image: ImageSpec) -> None:
        super().__init__()
        rows, columns, channels = image.height, image.width, int(image.channels)
        layers: list[nn.Module] = []
        while min(rows, columns) // 2 >= LEAST_SIDE:
            layers += [nn.Conv2d(channels, CHANNELS, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
            rows, columns, channels = rows // 2, columns // 2, CHANNELS
        layers += [nn.Flatten(), nn.Linear(channels * rows * columns, HIDDEN), nn.ReLU()]
        self.localisation = nn.Sequential(*layers)
        he(self.localisation)
        self.pose = Pose()
        y, x = ((2 * torch.arange(n) + 1) / n - 1 for n in (image.height, image.width))
        centres = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=2)
        self.register_buffer("centres", centres.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.grid_sample(x, self.grid(self.pose(self.localisation(x))), align_corners=False)

    def grid(self, pose: Tensor) -> Tensor:
        """(B, 2, 3) -> (B, H, W, 2): where each pixel comes from, as `affine_grid` says."""
        across, down, shift = pose[:, None, None].unbind(-1)  # each (B, 1, 1, 2)
        return across * self.centres[..., :1] + down * self.centres[..., 1:] + shift


class STN(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, config: STNConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        self.transformer = Transformer(image)
        self.cnn = CNN(CNNConfig(width=config.width), image, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.cnn(self.transformer(x))
        return logits
