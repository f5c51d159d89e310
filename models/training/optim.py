"""Optimisers from their configurations, and which weights they pull to zero."""

import math
from collections.abc import Iterator
from typing import Any, Protocol, assert_never, runtime_checkable

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
from models.training.uncompiled import uncompiled


@runtime_checkable
class LearnsAtShares(Protocol):
    """A module that was trained before: some of its weights learn at a share of the rate."""

    def rate_shares(self) -> Iterator[tuple[nn.Parameter, float]]: ...


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
            return uncompiled(torch.optim.AdamW)(groups, lr=lr, betas=config.betas, fused=True)
        case SGDConfig():
            nesterov = config.nesterov and config.momentum > 0
            return uncompiled(torch.optim.SGD)(groups, lr=lr, momentum=config.momentum, nesterov=nesterov, fused=True)
        case MuonConfig():
            return uncompiled(Muon)(
                split_groups(groups, new_weights(net), rest=config.rest),
                lr=lr,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                betas=config.betas,
                normalize=config.normalize,
            )
        case AdamConfig():
            return uncompiled(torch.optim.Adam)(groups, lr=lr, betas=config.betas, fused=True)
        case RMSpropConfig():
            return uncompiled(torch.optim.RMSprop)(groups, lr=lr, alpha=config.alpha, momentum=config.momentum)
        case AdagradConfig():
            return uncompiled(torch.optim.Adagrad)(groups, lr=lr)
        case AdadeltaConfig():
            return uncompiled(torch.optim.Adadelta)(groups, lr=lr, rho=config.rho)
        case _:
            assert_never(config)


def set_peak(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The rate at the top of the schedule, for all groups alike."""
    for group in optimizer.param_groups:
        group["peak_lr"] = lr


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """`share` of the peak, as `schedule.factor` gives it; groups may learn at a share of it themselves."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share * group.get("rate", 1.0)


def peak_of(optimizer: torch.optim.Optimizer) -> float:
    peak: float = optimizer.param_groups[0]["peak_lr"]
    return peak


def parameter_groups(net: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Those that decay apart from the others; frozen ones are in neither.

    `rate` is a group's share of the learning rate, full ones first.
    """
    chosen = {id(weight) for weight in decaying(net)}
    shares = rate_shares(net)
    groups: list[dict[str, Any]] = []
    for rate in sorted({1.0, *shares.values()}, reverse=True):
        some = [p for p in net.parameters() if p.requires_grad and shares.get(id(p), 1.0) == rate]
        groups += [
            {"params": [p for p in some if id(p) in chosen], "weight_decay": weight_decay, "rate": rate},
            {"params": [p for p in some if id(p) not in chosen], "weight_decay": 0.0, "rate": rate},
        ]
    return [group for group in groups if group["params"]]


def rate_shares(net: nn.Module) -> dict[int, float]:
    """id of a weight -> its share of the learning rate, for those that were trained before."""
    trained_before = [module for module in net.modules() if isinstance(module, LearnsAtShares)]
    return {id(weight): share for module in trained_before for weight, share in module.rate_shares()}


def new_weights(net: nn.Module) -> list[Tensor]:
    """Muon's part, less what was trained before: there another optimiser's weights gain nothing from Muon's even steps
    (https://arxiv.org/abs/2502.16982 on fine-tuning), and take AdamW's. A weight with an adapter is computed, no leaf.
    """
    shares = rate_shares(net)
    return [weight for weight in inner_weights(net) if weight.is_leaf and id(weight) not in shares]


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


def split_groups(groups: list[dict[str, Any]], inner: list[Tensor], *, rest: float = 1.0) -> list[dict[str, Any]]:
    """The same groups at `rest` of their rates, with the inner weights in a group of their own for Muon."""
    chosen = {id(weight) for weight in inner}
    others = [
        {**group, "params": [p for p in group["params"] if id(p) not in chosen], "rate": group["rate"] * rest}
        for group in groups
    ]
    return [group for group in [{"params": inner, "orthogonal": True}, *others] if group["params"]]
