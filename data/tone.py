"""Light, colour and sharpness of a batch, each picture by its own amount; as Pillow does them, without its rounding.

Everywhere: pixels (B, H, W, C) float32 of 0..255 in and out, every picture by itself, nothing waits for a GPU. What
changes a value by the value alone is one table of 256 for each picture and channel, whatever the operation.
"""

from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's grey
LEVELS = 256


class Operation(IntEnum):
    """The 14 of RandAugment and TrivialAugment."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    SATURATION = 6
    SHARPNESS = 7
    BRIGHTNESS = 8  # from here on: a table of values
    CONTRAST = 9
    POSTERISE = 10
    SOLARISE = 11
    AUTOCONTRAST = 12
    EQUALISE = 13


def saturate(pixels: Tensor, amount: Tensor) -> Tensor:
    """The distance from grey times 1 + amount (B,): -1 is grey. A grey picture stays as it is."""
    if pixels.shape[3] == 1:
        return pixels
    return torch.lerp(grey(pixels), pixels, 1 + amount.view(-1, 1, 1, 1)).clamp_(0, 255)


def grey(pixels: Tensor) -> Tensor:
    """(B, H, W, 1)"""
    return (pixels * luma(pixels.shape[3], pixels.device)).sum(3, keepdim=True)


@lru_cache(maxsize=8)
def luma(channels: int, device: torch.device) -> Tensor:
    """(C,) float32; kept, because a GPU waits for what is copied to it."""
    return torch.tensor(LUMA if channels == 3 else (1.0,), device=device)


def sharpen(pixels: Tensor, amount: Tensor) -> Tensor:
    """The distance from the smoothed picture times 1 + amount (B,): -1 is smooth. The outermost pixels stay."""
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = pixels[:, 1:-1, 1:-1]
    smooth = (box + 4 * inner) / 13  # 1 for each neighbour and 5 for the pixel
    sharp = pixels.clone()
    sharp[:, 1:-1, 1:-1] = torch.lerp(smooth, inner, 1 + amount.view(-1, 1, 1, 1)).clamp_(0, 255)
    return sharp


def retone(pixels: Tensor, operation: Tensor, amount: Tensor) -> Tensor:
    """Every value looked up in a table of its picture and channel; values are rounded first.

    operation int64 (B,), amount float32 (B,): brightness and contrast are times 1 + amount, posterise drops so many
    of 8 bits, solarise inverts the upper `amount` of 256 levels; other operations change nothing.
    """
    num, height, width, channels = pixels.shape
    index = pixels.permute(0, 3, 1, 2).round().to(torch.int64, memory_format=torch.contiguous_format)
    index += LEVELS * torch.arange(channels, device=pixels.device)[:, None, None]
    index = index.view(num, -1)
    counts = torch.zeros(num, channels * LEVELS, dtype=torch.int32, device=pixels.device)
    counts.scatter_add_(1, index, torch.ones((), dtype=torch.int32, device=pixels.device).expand_as(index))
    table = tables(counts.view(num, channels, LEVELS), operation, amount)
    return table.view(num, -1).gather(1, index).view(num, channels, height, width).permute(0, 2, 3, 1)


def tables(counts: Tensor, operation: Tensor, amount: Tensor) -> Tensor:
    """counts int32 (B, C, 256), how often each value comes -> float32 (B, C, 256), what it becomes."""
    level = torch.arange(LEVELS, device=counts.device)
    operation, amount = operation.view(-1, 1, 1), amount.view(-1, 1, 1)
    mean = mean_grey(counts)
    step = torch.exp2(amount.clamp(0, 8).round())
    changed = {
        Operation.BRIGHTNESS: level * (1 + amount),
        Operation.CONTRAST: mean + (level - mean) * (1 + amount),
        Operation.POSTERISE: (level / step).floor() * step,
        Operation.SOLARISE: torch.where(level < LEVELS - amount, level, 255 - level),
        Operation.AUTOCONTRAST: stretched(counts),
        Operation.EQUALISE: equalised(counts),
    }
    table = level.float().expand(counts.shape)
    for name, values in changed.items():
        table = torch.where(operation == name, values, table)
    return table.clamp_(0, 255)


def mean_grey(counts: Tensor) -> Tensor:
    """(B, 1, 1), in whole levels, as Pillow's contrast takes it."""
    level = torch.arange(LEVELS, device=counts.device, dtype=torch.float32)
    means = (counts * level).sum(2) / counts.sum(2)
    return (means * luma(counts.shape[1], counts.device)).sum(1).add(0.5).floor().view(-1, 1, 1)


def stretched(counts: Tensor) -> Tensor:
    """The darkest value of a channel becomes 0 and the brightest 255; a channel of one value stays."""
    level = torch.arange(LEVELS, device=counts.device)
    there = counts > 0
    low = torch.where(there, level, LEVELS).amin(2, keepdim=True)
    high = torch.where(there, level, -1).amax(2, keepdim=True)
    width = high - low
    values = ((level - low) * 255).div(width.clamp(min=1), rounding_mode="floor")
    return torch.where(width > 0, values, level).float()


def equalised(counts: Tensor) -> Tensor:
    """About as many pixels at each level; a channel stays where too few of its pixels differ."""
    level = torch.arange(LEVELS, device=counts.device)
    upto = counts.cumsum(2)
    total = upto[..., -1:]
    brightest = torch.where(counts > 0, level, -1).amax(2, keepdim=True)
    step = (total - counts.gather(2, brightest)).div(255, rounding_mode="floor")
    below = upto - counts + step.div(2, rounding_mode="floor")
    values = below.div(step.clamp(min=1), rounding_mode="floor").clamp(max=255)
    return torch.where(step > 0, values, level).float()
