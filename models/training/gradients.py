"""The gradient's norm, of the whole network and of each of its layers, for the price of clipping it."""

import math
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
    norms = torch.stack(torch._foreach_norm([weight.grad for weight in weights if weight.grad is not None]))
    joint = torch.linalg.vector_norm(norms)
    if not within(limit, joint):
        nn.utils.clip_grads_with_norm_(weights, limit, joint)
    if len(norms) < len(weights):
        each, none = iter(norms), joint.new_zeros(())  # no list of places, which would have to be brought to a GPU
        norms = torch.stack([none if weight.grad is None else next(each) for weight in weights])
    return torch.cat([joint.view(1), norms])


def within(limit: float, joint: Tensor) -> bool:
    """Whether clipping would multiply by 1, as far as that can be said without waiting for a GPU: the condition is
    torch's own, which is false for a norm that is no number."""
    if math.isinf(limit):
        return True
    return joint.device.type == "cpu" and bool(limit / (joint + 1e-6) >= 1)


def optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The weights that the optimiser moves, in its order, which is the order of `clip`."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def by_layer(net: nn.Module, weights: Sequence[Tensor], norms: Sequence[float]) -> dict[str, float]:
    """The norms under the names of the layers, input first; matrices and kernels only, not biases and norms' scales."""
    known = {id(weight): norm for weight, norm in zip(weights, norms, strict=True)}
    found = [(name.removesuffix(".weight"), p) for name, p in net.named_parameters() if p.ndim >= 2 and id(p) in known]
    names = without_what_all_share([name for name, _ in found])
    return {name: known[id(weight)] for name, (_, weight) in zip(names, found, strict=True)}


def without_what_all_share(names: Sequence[str]) -> list[str]:
    """["1.stem.conv", "1.head"] -> ["stem.conv", "head"]: a beginning that all have says nothing."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    return [".".join(name.split(".")[shared:]) for name in names]
