"""What a network weighs and what one answer costs, for the card."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data.spec import ImageSpec
from models.zoo.adapter import adapters, merge


class Cost(NamedTuple):
    parameters: int
    flops: int  # of one picture's way forward: two for each multiply-add of a product or convolution, nothing else


@contextmanager
def plain() -> Iterator[None]:
    """No fused operations: the counter does not look inside the LSTMs of oneDNN and cuDNN, nor all fused attention."""
    libraries = torch.backends.mkldnn, torch.backends.cudnn
    before = [library.enabled for library in libraries]
    try:
        for library in libraries:
            library.enabled = False  # type: ignore[attr-defined]
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for library, enabled in zip(libraries, before, strict=True):
            library.enabled = enabled  # type: ignore[attr-defined]


def cost(net: nn.Module, image: ImageSpec) -> Cost:
    """`net`: uint8 (B, H, W, C) -> logits. One picture is run through it, on its device; it is left as it was.

    Adapters count as parameters, and in the arithmetic as what they become in the exported graph: nothing.
    """
    parameters = sum(weight.numel() for weight in net.parameters())
    if any(adapters(net)):
        net = merge(deepcopy(net))
    first = next(net.parameters())
    picture = torch.zeros(1, image.height, image.width, image.channels, dtype=torch.uint8, device=first.device)
    training = net.training
    counter = FlopCounterMode(display=False)
    net.eval()
    try:
        with torch.no_grad(), plain(), counter:
            net(picture)
    finally:
        net.train(training)
    return Cost(parameters=parameters, flops=counter.get_total_flops())
