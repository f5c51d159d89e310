"""Two looks at each picture: as it is and mirrored. Part of the network that answers, so of the exported graph too."""

import math

import torch
from torch import Tensor, nn

from data.errors import InputError
from data.snapshot import Snapshot


class Mirrored(nn.Module):
    """uint8 (B, H, W, C) -> (B, K): logarithms of the mean of the probabilities of a picture and its mirror image, all
    raised by the mean of the two energies with the other sign, which the probabilities do not show.

    They are logits like any others: one temperature, fitted to them, calibrates the mean.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(torch.cat([pixels, pixels.flip(2)]))  # (2B, K), in one pass
        sums = torch.logsumexp(logits.float(), dim=1, keepdim=True)  # (2B, 1)
        answers = (logits.float() - sums).view(2, -1, logits.shape[1])
        mean = torch.logsumexp(answers, dim=0) - math.log(2)
        return mean + sums.view(2, -1, 1).mean(dim=0)


def single(network: nn.Module) -> nn.Module:
    """The network that was trained."""
    return network.network if isinstance(network, Mirrored) else network


def check_mirror(snapshot: Snapshot, *, mirror: bool) -> None:
    """Raises `InputError` if `answer.mirror` is asked for where it would mix two classes."""
    if mirror and not snapshot.mirror:
        raise InputError(
            f"answer.mirror is on, but a mirrored picture of {snapshot.name} may be of another class; leave it off"
        )
