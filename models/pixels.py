"""Layer 0 of every network: stored pixels -> normalised input. The only arithmetic on pixels in this project.

It is part of the network, so training, validation, the exported graph and the service cannot differ in it.
"""

import numpy as np
import torch
from torch import Tensor, nn

from data.shards.stream import Streamed
from data.spec import ImageSpec
from models.records import PixelStatistics

# B batch, H height, W width, C channels

CHUNK = 1 << 24  # bytes looked at in one go while measuring
SAMPLE = 10_000  # pictures, whose mean is within a hundredth of its standard deviation of that of all
SMALLEST_STD = 1 / 255  # one grey level: a constant channel is left at zero instead of being blown up


class Pixels(nn.Module):
    """uint8 (B, H, W, C), or float of 0..255 after augmentation -> (B, C, H, W) in the network's type.

    Permuting costs nothing, and pixels as they are stored come out in channels_last memory, which convolutions prefer.
    Grey pictures with statistics of three channels, which a published network brings, come out in three.
    """

    mean: Tensor  # (C,), of 0..255
    scale: Tensor  # (C,), 1 / standard deviation

    def __init__(self, image: ImageSpec, statistics: PixelStatistics) -> None:
        super().__init__()
        if len(statistics.mean) != len(statistics.std) or image.channels not in (1, len(statistics.mean)):
            raise ValueError(f"statistics of {len(statistics.mean)} channels for pictures of {image.channels}")
        self.register_buffer("mean", 255 * torch.tensor(statistics.mean))
        self.register_buffer("scale", 1 / (255 * torch.tensor(statistics.std)))

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.to(self.mean.dtype) - self.mean) * self.scale
        return x.permute(0, 3, 1, 2)


def measure(pixels: np.ndarray, rows: np.ndarray) -> PixelStatistics:
    """Mean and standard deviation per channel over `rows` of pixels (N, H, W, C) uint8; hand in training rows only.

    From exact integer sums, so neither chunks nor threads show in the result, and a memory map is never copied whole.
    Of pictures in shards, which are decoded for it, `SAMPLE` of the rows are measured.
    """
    if not len(rows):
        raise ValueError("no rows to measure")
    if isinstance(pixels, Streamed) and len(rows) > SAMPLE:
        rows = rows[np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64)]
    C = pixels.shape[-1]
    total, squares, count = np.zeros(C), np.zeros(C), 0
    for part in np.array_split(np.sort(rows), max(1, len(rows) * pixels[0].nbytes // CHUNK)):
        chunk = torch.from_numpy(pixels[part]).view(-1, C)  # fancy indexing copies, so the map stays read-only
        wide = chunk.to(torch.int32)
        total += wide.sum(0, dtype=torch.int64).numpy()
        squares += wide.square_().sum(0, dtype=torch.int64).numpy()
        count += len(chunk)
    mean = total / count / 255
    variance = squares / count / 255**2 - mean**2
    std = np.maximum(np.sqrt(np.maximum(variance, 0)), SMALLEST_STD)
    return PixelStatistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
