"""Optimisers from their configurations, and which weights they pull to zero."""

import math
from collections.abc import Iterator
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from models.training.config import (
    AdadeltaConfig,
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    MuonConfig,
    OptimizerConfig,
    RMSpropConfig,
    SGDConfig,
)
from models.training.muon import Muon, inner_weights


def build_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Fused kernels where torch has them on every device: one pass over the weights instead of one per tensor.

    Every group carries its peak rate as `peak_lr`, which checkpoints keep; the loop sets `lr` from it at each step.
    With lr "auto" it is NaN until `set_peak` or a checkpoint says more.
    """
    optimizer = bare_optimizer(net, config, lr=1.0 if config.lr == "auto" else config.lr)
    set_peak(optimizer, math.nan if config.lr == "auto" else config.lr)
    return optimizer


def bare_optimizer(net: nn.Module, config: OptimizerConfig, *, lr: float) -> torch.optim.Optimizer:
    groups = parameter_groups(net, weight_decay=config.weight_decay)
    match config:
        case AdamWConfig():
            return torch.optim.AdamW(groups, lr=lr, betas=config.betas, fused=True)
        case SGDConfig():
            nesterov = config.nesterov and config.momentum > 0
            return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=nesterov, fused=True)
        case MuonConfig():
            return Muon(
                split_groups(groups, inner_weights(net)),
                lr=lr,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                betas=config.betas,
            )
        case AdamConfig():
            return torch.optim.Adam(groups, lr=lr, betas=config.betas, fused=True)
        case RMSpropConfig():
            return torch.optim.RMSprop(groups, lr=lr, alpha=config.alpha, momentum=config.momentum)
        case AdagradConfig():
            return torch.optim.Adagrad(groups, lr=lr)
        case AdadeltaConfig():
            return torch.optim.Adadelta(groups, lr=lr, rho=config.rho)
        case _:
            assert_never(config)


def set_peak(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The rate at the top of the schedule, for all groups alike."""
    for group in optimizer.param_groups:
        group["peak_lr"] = lr


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """`share` of the peak, as `schedule.factor` gives it."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share


def peak_of(optimizer: torch.optim.Optimizer) -> float:
    peak: float = optimizer.param_groups[0]["peak_lr"]
    return peak


def parameter_groups(net: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Those that decay, and the others; frozen ones are in neither."""
    chosen = {id(weight) for weight in decaying(net)}
    parameters = [p for p in net.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if id(p) in chosen], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in chosen], "weight_decay": 0.0},
    ]


def decaying(net: nn.Module) -> Iterator[Tensor]:
    """The kernels and matrices that map activations: two axes or more, and `weight` in the name, as in torch's layers.

    Pulling the rest to zero changes the function without making it simpler: biases and norms have one axis; positions,
    class tokens, queries and lookup tables are inputs, held under names of their own or in an `nn.Embedding`.
    """
    for module in net.modules():
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim >= 2 and "weight" in name:
                    yield parameter


def split_groups(groups: list[dict[str, Any]], inner: list[Tensor]) -> list[dict[str, Any]]:
    """The same groups, with the inner weights in a group of their own for Muon."""
    chosen = {id(weight) for weight in inner}
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in chosen]} for group in groups]
    return [group for group in [{"params": inner, "orthogonal": True}, *rest] if group["params"]]
