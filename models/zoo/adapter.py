"""Low-rank adapters, LoRA, https://arxiv.org/abs/2106.09685: a frozen weight W learns as W + scale * up @ down.

The sum is taken in the space of the weights, through torch's parametrizations. So one rule serves matrices and kernels
(a kernel (out, in, h, w) counts as the matrix (out, in * h * w)), also where a library reads `layer.weight` without
calling the layer, as attention does; and what is added when training ends is exactly what was trained.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

SCALE = 2.0  # alpha / rank; as usual


class LowRank(nn.Module):
    """A weight (out, ...) -> the same shape; the identity at the start of training, since `up` is zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + SCALE * (self.up @ self.down).view_as(weight)


def adapt(net: nn.Module, *, rank: int, leave_out: nn.Module) -> None:
    """Give every matrix and kernel of `net` an adapter, in place, except in `leave_out`; freezing is the caller's.

    The rank is at most half of a matrix's shorter side: beyond that an adapter is no smaller than the matrix.
    """
    for module, name in list(matrices(net)):
        weight = getattr(module, name)
        most = min(len(weight), weight[0].numel()) // 2
        if module is not leave_out and most:
            parametrize.register_parametrization(module, name, LowRank(weight, min(rank, most)))


def matrices(net: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """(module, name of its weight) of linear layers, convolutions, and attention's joint projection."""
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield module, "weight"
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield module, "in_proj_weight"


def adapters(net: nn.Module) -> Iterator[LowRank]:
    return (module for module in net.modules() if isinstance(module, LowRank))


@torch.no_grad()
def merge(net: nn.Module) -> nn.Module:
    """Every adapted weight becomes a plain one, in place: the same answers, at no cost.

    Not torch's `remove_parametrizations`: it deletes the weight from a class that copies of the network share.
    """
    for module in list(net.modules()):
        adapted = getattr(module, "parametrizations", None)
        if not isinstance(adapted, nn.ModuleDict):
            continue
        merged = {name: getattr(module, name).detach().clone() for name in adapted}
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, weight in merged.items():
            module.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    return net
