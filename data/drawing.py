"""Random numbers and shapes for a batch, from a generator alone, on the device where the pictures are."""

from functools import lru_cache

import torch
from torch import Generator, Tensor

QUANTILES = 4096  # of the Beta distribution


def uniform(num: int, low: float, high: float, like: Tensor, generator: Generator) -> Tensor:
    """(num,) float32 in [low, high) on the device of `like`."""
    drawn = torch.rand(num, generator=generator, device=generator.device)
    return (low + (high - low) * drawn).to(like.device)


@lru_cache(maxsize=8)
def beta_quantiles(alpha: float, device: torch.device) -> Tensor:
    """(QUANTILES,) float32: Beta(alpha, alpha) at even probabilities; torch cannot draw it from a generator. Kept,
    because a GPU waits for what comes to it."""
    from scipy.special import betaincinv  # late: most of a second to import, and only mixing needs it

    at = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, at.numpy())).float().to(device)


def beta(num: int, alpha: float, like: Tensor, generator: Generator) -> Tensor:
    """(num,) float32 from Beta(alpha, alpha)."""
    which = (uniform(num, 0, 1, like, generator) * QUANTILES).long().clamp_(max=QUANTILES - 1)
    return beta_quantiles(alpha, like.device)[which]


def rectangles(pixels: Tensor, area: Tensor, ratio: Tensor, generator: Generator) -> Tensor:
    """(B, H, W, 1) bool: a rectangle at a random place of each picture, of this share of the area, cut at the border.

    `ratio` is height over width. Its centre is anywhere, so that border pixels are hit as often as others.
    """
    num, height, width, _ = pixels.shape
    tall, wide = (area * ratio).sqrt() * height / 2, (area / ratio).sqrt() * width / 2
    middle_y = uniform(num, 0, height, pixels, generator)
    middle_x = uniform(num, 0, width, pixels, generator)
    y = torch.arange(height, device=pixels.device) + 0.5
    x = torch.arange(width, device=pixels.device) + 0.5
    rows = (y - middle_y[:, None]).abs() < tall[:, None]
    columns = (x - middle_x[:, None]).abs() < wide[:, None]
    return (rows[:, :, None] & columns[:, None, :])[..., None]
