"""Muon: momentum whose update is made orthogonal, for the weights inside a network; AdamW for all others.

After https://kellerjordan.github.io/posts/muon/ (the iteration and its coefficients) and
https://arxiv.org/abs/2502.16982 (decoupled weight decay, and updates scaled to the root mean square of AdamW's, so
that both halves share one learning rate). A kernel (out, in, h, w) counts as the matrix (out, in * h * w).

Where a batch norm follows, a kernel's size means nothing for the answers, but it divides the rate, and it grows with
every step. Normalized ones are brought back before each, as in https://github.com/KellerJordan/cifar10-airbench; here
to the root mean square of an update at rate 1: so the rate is the share of a kernel that a step changes.
"""

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

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

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        if closure is not None:
            raise TypeError("Muon takes no closure; compute the gradients before the step")
        for group in self.param_groups:
            update = self._muon if group["orthogonal"] else self._adamw
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    update(weight, weight.grad, group)
        return None

    def _muon(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        average = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        ahead = torch.lerp(gradient, average, group["momentum"])  # Nesterov
        matrix = orthogonalize(ahead.flatten(1))
        if self.normalize:
            weight.mul_(RMS * math.sqrt(weight.numel()) / (weight.norm() + 1e-7))
        weight.add_(matrix.view_as(weight), alpha=-group["lr"] * RMS * math.sqrt(max(matrix.shape)))

    def _adamw(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        step, (first, second) = float(state["step"]), group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        scale = (state["square"] / (1 - second**step)).sqrt_().add_(1e-8)
        weight.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - first**step))


def orthogonalize(matrix: Tensor) -> Tensor:
    """(m, n) -> the same shape and singular vectors, all singular values near 1.

    Newton-Schulz multiplies x by a polynomial of x x' again and again. All of it happens in the square matrix of the
    shorter side, which for a matrix nine times as long takes 0.4 of the multiplications (76 m^3 for 190 m^3),
    few enough for float32: there the squares of small singular values survive, where bfloat16's rounding would make
    some of them negative, and those grow.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = (matrix.T if tall else matrix).float()
    x = wide / (wide.norm() + 1e-7)
    gram = x @ x.T
    product = factor = polynomial(gram)  # all of them commute, as does gram with them
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = polynomial(gram)
        product = factor @ product
    x = product @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype)
    return result


def polynomial(gram: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


def inner_weights(net: nn.Module) -> list[Tensor]:
    """Kernels and matrices between the first and the last layer: Muon's part, by its authors' advice.

    Not the very wide ones: AlexNet's 9,216 x 4,096 alone would cost several times the rest of its step.
    """
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    weights = [layer.weight for layer in layers[1:-1] if layer.weight.requires_grad]
    return [weight for weight in weights if min(weight.flatten(1).shape) <= WIDEST]
