"""What a network weighs and what one answer costs, for the card."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from data.spec import ImageSpec


class Cost(NamedTuple):
    parameters: int
    flops: int  # of one picture's way forward: two for each multiply-add of a product or convolution, nothing else


def cost(net: nn.Module, image: ImageSpec) -> Cost:
    """`net`: uint8 (B, H, W, C) -> logits. One picture is run through it, on its device; it is left as it was."""
    first = next(net.parameters())
    picture = torch.zeros(1, image.height, image.width, image.channels, dtype=torch.uint8, device=first.device)
    training = net.training
    # Plain operations: the counter does not look inside the fused LSTMs of oneDNN and cuDNN, nor all fused attention.
    plain = (torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False))
    counter = FlopCounterMode(display=False)
    net.eval()
    try:
        with torch.no_grad(), plain[0], plain[1], sdpa_kernel(SDPBackend.MATH), counter:
            net(picture)
    finally:
        net.train(training)
    return Cost(parameters=sum(p.numel() for p in net.parameters()), flops=counter.get_total_flops())
