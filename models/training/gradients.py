"""The gradient's norm, of the whole network and of each of its layers, for the price of clipping it."""

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip(weights: Sequence[Tensor], limit: float) -> Tensor:
    """Scale the gradients of the P weights in place so that their joint norm is at most `limit`.

    Returns (1 + P,): the joint norm and each weight's own, before clipping; 0 where no gradient flowed. The joint norm
    is computed from the others, so that keeping them costs nothing, and nothing waits for a GPU.
    """
    flowing = [index for index, weight in enumerate(weights) if weight.grad is not None]
    norms = torch.stack(torch._foreach_norm([weights[index].grad for index in flowing]))
    joint = torch.linalg.vector_norm(norms)
    nn.utils.clip_grads_with_norm_(weights, limit, joint)
    if len(flowing) < len(weights):
        norms = norms.new_zeros(len(weights)).index_copy(0, torch.tensor(flowing, device=norms.device), norms)
    return torch.cat([joint.view(1), norms])


def optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The weights that the optimiser moves, in its order, which is the order of `clip`."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def by_layer(net: nn.Module, weights: Sequence[Tensor], norms: Sequence[float]) -> dict[str, float]:
    """The norms under the names of the layers, input first; matrices and kernels only, not biases and norms' scales."""
    known = {id(weight): norm for weight, norm in zip(weights, norms, strict=True)}
    found = [(name.removesuffix(".weight"), known[id(p)]) for name, p in net.named_parameters() if counts(p, known)]
    levels = zip(*(name.split(".")[:-1] for name, _ in found), strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))  # by all names, so it says nothing
    return {".".join(name.split(".")[shared:]): norm for name, norm in found}


def counts(weight: Tensor, known: dict[int, float]) -> bool:
    return weight.ndim >= 2 and id(weight) in known
