"""Muon: momentum whose update is made orthogonal, for the weights inside a network; AdamW for all others.

After https://kellerjordan.github.io/posts/muon/ (the iteration and its coefficients) and
https://arxiv.org/abs/2502.16982 (decoupled weight decay, and updates scaled to the root mean square of AdamW's, so
that both halves share one learning rate). A kernel (out, in, h, w) counts as the matrix (out, in * h * w).

Where a batch norm follows, a kernel's size means nothing for the answers, but it divides the rate, and it grows with
every step. Normalized ones are brought back before each, as in https://github.com/KellerJordan/cifar10-airbench; here
to the root mean square of an update at rate 1: so the rate is the share of a kernel that a step changes.

A step starts few kernels: one for all of AdamW's weights, and as many for all matrices of one shape as for one. On a
GPU, starting them one tensor at a time would take longer than computing them.
"""

import math
from collections.abc import Callable, Hashable, Iterable
from functools import cache
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from models.device import multiplies_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a quintic that drives singular values into 0.7..1.2 in few steps
ITERATIONS = 5
WIDEST = 1024  # smaller side of a matrix; a step's arithmetic grows with its square times the longer one
RMS = 0.2  # of an update, as AdamW's usually is


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal=True` take Muon's step, the others AdamW's. State and groups are saved as usual."""

    def __init__(
        self,
        groups: ParamsT,
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        betas: tuple[float, float],
        normalize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas, "orthogonal": False}
        self.normalize = normalize
        super().__init__(groups, defaults)
        self.register_load_state_dict_post_hook(settle)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        if closure is not None:
            raise TypeError("Muon takes no closure; compute the gradients before the step")
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                (self._muon if group["orthogonal"] else self._adamw)(weights, group)
        return None

    def _muon(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Decay, or what takes its place, for all at once; the rest one stack after the other, for less memory."""
        if self.normalize:
            resize(weights)
        else:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for stack in gathered(weights, map(stacked_by, weights)):
            for weight in stack:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            averages = [self.state[weight]["momentum"] for weight in stack]
            gradients = [weight.grad for weight in stack if weight.grad is not None]
            torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, averages, group["momentum"])  # Nesterov
            matrices = joined(ahead)
            turned = orthogonalize(matrices, bfloat16=multiplies_well(matrices.device))
            scale = RMS * math.sqrt(max(matrices.shape[1:]))
            torch._foreach_add_(stack, parted(turned, stack[0]), alpha=-group["lr"] * scale)

    def _adamw(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """All of one age at once, and as a rule they are."""
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["step"] = torch.tensor(0.0)  # on the CPU: to read a GPU's would be to wait for it
                self.state[weight]["mean"] = torch.zeros_like(weight)
                self.state[weight]["square"] = torch.zeros_like(weight)
        counts = [self.state[weight]["step"] for weight in weights]
        torch._foreach_add_(counts, 1)
        ages = torch.stack(counts).tolist()
        keys = [(age, weight.device, weight.dtype) for age, weight in zip(ages, weights, strict=True)]
        for alike in gathered(weights, keys):
            self._fused(alike, group, age=float(self.state[alike[0]]["step"]))

    def _fused(self, weights: list[Tensor], group: dict[str, Any], *, age: float) -> None:
        states, (first, second) = [self.state[weight] for weight in weights], group["betas"]
        count = torch.full((), age, dtype=torch.float32, device=weights[0].device)
        torch._fused_adamw_(
            weights,
            [laid_out(weight.grad, weight) for weight in weights if weight.grad is not None],
            [state["mean"] for state in states],
            [state["square"] for state in states],
            [],
            [count] * len(weights),
            lr=group["lr"],
            beta1=first,
            beta2=second,
            weight_decay=group["weight_decay"],
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )


def settle(optimizer: torch.optim.Optimizer) -> None:
    """After state was loaded: counts go to the CPU, and moments to the layout of their weights, which may be new."""
    for weight, state in optimizer.state.items():
        for key, value in state.items():
            state[key] = value.cpu() if key == "step" else laid_out(value, weight)


def laid_out(tensor: Tensor, weight: Tensor) -> Tensor:
    """It lies in memory as the weight does: torch's fused AdamW on a CPU does not look, and would mix up numbers."""
    strides = zip(tensor.shape, tensor.stride(), weight.stride(), strict=True)
    if all(one == other or size == 1 for size, one, other in strides):
        return tensor
    return torch.empty_like(weight).copy_(tensor)


def gathered(weights: list[Tensor], keys: Iterable[Hashable]) -> list[list[Tensor]]:
    """Those of the same key together, in their order."""
    groups: dict[Hashable, list[Tensor]] = {}
    for weight, key in zip(weights, keys, strict=True):
        groups.setdefault(key, []).append(weight)
    return list(groups.values())


def stacked_by(weight: Tensor) -> Hashable:
    """On a CPU every matrix by itself: there a stack takes longer, as it leaves the cache."""
    return id(weight) if weight.device.type == "cpu" else (weight.shape, weight.dtype, weight.device)


def joined(tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """k of (m, ...) -> (k, m, n). Along the first axis, so that torch joins kernels in any layout at once."""
    whole = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
    return whole.reshape(len(tensors), len(tensors[0]), -1)


def parted(matrices: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """(k, m, n) -> k in the shape, type and layout of the weight."""
    channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    whole = matrices.reshape(-1, *weight.shape[1:]).to(weight.dtype, memory_format=layout)
    return torch.split(whole, len(weight))


def resize(weights: list[Tensor]) -> None:
    """Each to a root mean square of RMS."""
    sizes = torch._foreach_norm(weights)
    torch._foreach_add_(sizes, 1e-7)
    torch._foreach_reciprocal_(sizes)
    torch._foreach_mul_(sizes, [RMS * math.sqrt(weight.numel()) for weight in weights])
    torch._foreach_mul_(weights, sizes)


@cache
def multiplies_well(device: torch.device) -> bool:
    """A GPU in bfloat16. Not CPUs: with AVX512-BF16 it takes longer than float32's shorter way."""
    return device.type == "cuda" and multiplies_bfloat16(device)


def orthogonalize(matrices: Tensor, *, bfloat16: bool = False) -> Tensor:
    """(k, m, n) -> the same shape and singular vectors, all singular values near 1.

    Newton-Schulz multiplies x by a polynomial of x x' again and again. In bfloat16 just so, as its authors do. In
    float32 all of it happens in the square matrix of the shorter side, which for a matrix nine times as long takes
    0.37 of the multiplications (35 m^3 for 95 m^3). There the squares of small singular values survive, where
    bfloat16's rounding would make some of them negative, and those grow.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    wide = (matrices.mT if tall else matrices).float()
    x = wide / (torch.linalg.vector_norm(wide, dim=(1, 2), keepdim=True) + 1e-7)
    x = iterated(x.bfloat16()) if bfloat16 else in_the_square(x)
    return x.mT if tall else x


def iterated(x: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def in_the_square(x: Tensor) -> Tensor:
    gram = torch.bmm(x, x.mT)
    product = factor = polynomial(gram)  # all of them commute, as does gram with them
    for _ in range(ITERATIONS - 1):
        gram = torch.bmm(torch.bmm(factor, gram), factor)
        factor = polynomial(gram)
        product = torch.bmm(factor, product)
    return torch.bmm(product, x)


def polynomial(gram: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


def inner_weights(net: nn.Module) -> list[Tensor]:
    """Kernels and matrices between the first and the last layer: Muon's part, by its authors' advice.

    Not the very wide ones: AlexNet's 9,216 x 4,096 alone would cost several times the rest of its step.
    """
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    weights = [layer.weight for layer in layers[1:-1] if layer.weight.requires_grad]
    return [weight for weight in weights if min(weight.flatten(1).shape) <= WIDEST]
