"""A network's answers to labelled pictures, as validation and evaluation need them."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.device import Precision, autocast
from models.training.fit import Validation


@torch.inference_mode()
def logits_of(
    net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, precision: Precision = "float32"
) -> tuple[Tensor, Tensor]:
    """float32 logits (N, K) and labels (N,), on the device of the batches."""
    net.eval()
    answers, labels = [], []
    for pixels, targets in batches:
        with autocast(pixels.device, precision):
            answers.append(net(pixels).float())
        labels.append(targets)
    return torch.cat(answers), torch.cat(labels)


def validate(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, precision: Precision) -> Validation:
    """Loss without label smoothing, so that it can be compared between settings."""
    logits, labels = logits_of(net, batches, precision=precision)
    loss = F.cross_entropy(logits, labels)
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return Validation(*torch.stack([loss, accuracy]).tolist())
