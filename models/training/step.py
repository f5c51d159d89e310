"""One step of training, and its random numbers."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from models.config import TrainConfig
from models.device import autocast
from models.training.gradients import clip, optimized
from models.training.losses import loss_of

DROPOUT = 3  # which random numbers; the batches use 1 and 2


def train_step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    targets: Tensor,
    *,
    config: TrainConfig,
    class_weights: Tensor | None = None,
) -> Tensor:
    """One step down the gradient. Returns (2 + P,): the loss, and of the gradient before clipping its norm and that of
    each of the P weights; not waited for.

    The batch goes through the network in `config.accumulate` parts, whose gradients add up to that of the whole; only
    batch norm, which sees one part at a time, can tell. No part is a single picture, from which it cannot learn.
    """
    optimizer.zero_grad()
    parts = parts_of(len(pixels), config)
    total = torch.zeros((), device=pixels.device)
    for some, wanted in zip(pixels.tensor_split(parts), targets.tensor_split(parts), strict=True):
        share = len(some) / len(pixels)
        with autocast(pixels.device, config.precision):
            loss = loss_of(
                net(some), wanted, config=config.loss, smoothing=config.label_smoothing, class_weights=class_weights
            )
        # Given a gradient, torch 2.15 imports sympy (0.3 CPU seconds) to compare its size with the loss's.
        loss.backward(None if parts == 1 else torch.full_like(loss, share))  # type: ignore[no-untyped-call]
        total.add_(loss.detach(), alpha=share)
    norms = clip(optimized(optimizer), math.inf if config.clip_norm is None else config.clip_norm)
    optimizer.step()
    return torch.cat([total.view(1), norms])


def parts_of(num: int, config: TrainConfig) -> int:
    """In how many a batch of so many pictures goes through the network."""
    return max(1, min(config.accumulate, num // 2))


def dropout_seed(run_seed: int, epoch: int, step: int, *, rank: int = 0) -> int:
    """Of several processes each draws its own; the first draws what a single one would."""
    entropy = [run_seed, epoch, step, DROPOUT, *([rank] if rank else [])]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
