"""Two training pictures in one, and their targets with them."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from data.drawing import beta, rectangles, uniform


def mix_weights(pixels: Tensor, *, mixup: float, cutmix: float, generator: Generator) -> Tensor:
    """(B, H, W, 1) float32 in 0..1: how much of each pixel stays; the rest is another picture's.

    Mixup (https://arxiv.org/abs/1710.09412) keeps one share everywhere, cutmix (https://arxiv.org/abs/1905.04899)
    keeps all but a rectangle. Each picture gets one of them, by a fair coin where both are asked for.
    """
    num, height, width, _ = pixels.shape
    even = torch.ones(num, height, width, 1, device=pixels.device)
    if mixup:
        even = even * beta(num, mixup, pixels, generator).view(-1, 1, 1, 1)
    if not cutmix:
        return even
    area = 1 - beta(num, cutmix, pixels, generator)
    cut = 1 - rectangles(pixels, area, torch.ones_like(area), generator).float()
    if not mixup:
        return cut
    heads = uniform(num, 0, 1, pixels, generator) < 0.5
    return torch.where(heads.view(-1, 1, 1, 1), even, cut)


def mix(
    pixels: Tensor, labels: Tensor, weight: Tensor, *, num_classes: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Each picture with a random partner, by `weight` (B, H, W, 1); float32 pixels and targets (B, num_classes)."""
    partner = torch.randperm(len(pixels), generator=generator, device=generator.device).to(pixels.device)
    values = pixels.float()
    mixed = torch.lerp(values[partner], values, weight)
    share = weight.mean((1, 2, 3)).view(-1, 1)
    own = F.one_hot(labels, num_classes).float()
    return mixed, torch.lerp(own[partner], own, share)
