"""Optimisers and the course of the learning rate, from their configurations."""

import math
from collections.abc import Iterator
from typing import Any, Protocol, assert_never, runtime_checkable

import torch
from torch import Tensor, nn

from models.training.config import AdamWConfig, MuonConfig, OptimizerConfig, ScheduleConfig, SGDConfig
from models.training.muon import Muon, inner_weights


@runtime_checkable
class LearnsAtShares(Protocol):
    """A module that was trained before: some of its weights learn at a share of the rate."""

    def rate_shares(self) -> Iterator[tuple[nn.Parameter, float]]: ...


def build_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Fused kernels: one pass over the weights instead of one per tensor and operation."""
    groups = parameter_groups(net, weight_decay=config.weight_decay)
    match config:
        case AdamWConfig():
            return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
        case SGDConfig():
            nesterov = config.nesterov and config.momentum > 0
            return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=True)
        case MuonConfig():
            return Muon(
                split_groups(groups, new_weights(net)),
                lr=config.lr,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                betas=config.betas,
            )
        case _:
            assert_never(config)


def parameter_groups(net: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases and norms (fewer than two axes) do not, since pulling them to zero
    changes the function without making it simpler. `rate` is a group's share of the learning rate, full ones first."""
    shares = rate_shares(net)
    groups: list[dict[str, Any]] = []
    for rate in sorted({1.0, *shares.values()}, reverse=True):
        some = [p for p in net.parameters() if p.requires_grad and shares.get(id(p), 1.0) == rate]
        groups += [
            {"params": [p for p in some if p.ndim >= 2], "weight_decay": weight_decay, "rate": rate},
            {"params": [p for p in some if p.ndim < 2], "weight_decay": 0.0, "rate": rate},
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


def split_groups(groups: list[dict[str, Any]], inner: list[Tensor]) -> list[dict[str, Any]]:
    """The same groups, with the inner weights in a group of their own for Muon."""
    chosen = {id(weight) for weight in inner}
    rest = [{**group, "params": [p for p in group["params"] if id(p) not in chosen]} for group in groups]
    return [group for group in [{"params": inner, "orthogonal": True}, *rest] if group["params"]]


def factor(step: int, *, total_steps: int, config: ScheduleConfig) -> float:
    """Share of the peak learning rate at `step`, 0 <= step < total_steps.

    The warm-up rises in equal parts to 1, never starts at 0 (a step that learns nothing), and never takes the whole
    run; after it the rate goes from 1 to `config.final` at the very last step.
    """
    warmup = min(round(config.warmup * total_steps), total_steps - 1)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total_steps - 1 - warmup)  # 0..1
    match config.kind:
        case "constant":
            return 1.0
        case "cosine":
            return config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2
        case _:
            assert_never(config.kind)
