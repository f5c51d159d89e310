"""Optimisers against the equations of their papers, written out in numpy and float64."""

from collections.abc import Callable

import numpy as np
import pytest
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
from models.training.muon import RMS, orthogonalize
from models.training.optim import build_optimizer, parameter_groups, peak_of, set_peak, set_rate

EVERY: list[OptimizerConfig] = [
    AdamWConfig(lr=0.05, weight_decay=0.3),
    SGDConfig(lr=0.05, weight_decay=0.3),
    MuonConfig(lr=0.05, weight_decay=0.3),
    AdamConfig(lr=0.05, weight_decay=0.3),
    RMSpropConfig(lr=0.05, weight_decay=0.3),
    AdagradConfig(lr=0.3, weight_decay=0.3),
    AdadeltaConfig(lr=10.0, weight_decay=0.3),
]
State = dict[str, np.ndarray]
Rule = Callable[[np.ndarray, np.ndarray, State, int], np.ndarray]


class Tokens(nn.Module):
    """Every sort of weight that a network here has."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 2)
        self.norm = nn.BatchNorm2d(4)
        self.positions = nn.Parameter(torch.zeros(5, 4))
        self.class_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.table = nn.Embedding(3, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.rows = nn.LSTM(4, 4)
        self.head = nn.Linear(4, 2)


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.kind)
def test_kernels_and_matrices_alone_decay(config: OptimizerConfig):
    net = Tokens()
    decay = {p: group["weight_decay"] for group in build_optimizer(net, config).param_groups for p in group["params"]}
    decaying = {name for name, p in net.named_parameters() if decay[p] == 0.3}
    assert decaying == {
        "patches.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "rows.weight_ih_l0",
        "rows.weight_hh_l0",
        "head.weight",
    }
    assert all(decay[p] == 0.0 for name, p in net.named_parameters() if name not in decaying)


def test_frozen_weights_are_left_out():
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(net, weight_decay=0.1)) == 1


def sgd(config: SGDConfig) -> Rule:
    def rule(w: np.ndarray, g: np.ndarray, state: State, step: int) -> np.ndarray:
        v = state["v"] = g if step == 1 else config.momentum * state["v"] + g
        ahead = g + config.momentum * v if config.nesterov and config.momentum else v
        return w - config.lr * ahead

    return rule


def adam(config: AdamConfig | AdamWConfig | MuonConfig) -> Rule:
    first, second = config.betas

    def rule(w: np.ndarray, g: np.ndarray, state: State, step: int) -> np.ndarray:
        m = state["m"] = first * state.get("m", 0 * g) + (1 - first) * g
        v = state["v"] = second * state.get("v", 0 * g) + (1 - second) * g**2
        return w - config.lr * (m / (1 - first**step)) / (np.sqrt(v / (1 - second**step)) + 1e-8)

    return rule


def muon(config: MuonConfig) -> Rule:
    """The orthogonal factor itself is proved in test_muon.py."""

    def rule(w: np.ndarray, g: np.ndarray, state: State, _: int) -> np.ndarray:
        m = state["m"] = config.momentum * state.get("m", 0 * g) + (1 - config.momentum) * g
        ahead = config.momentum * m + (1 - config.momentum) * g
        turned = orthogonalize(torch.from_numpy(ahead).float()[None])[0].double().numpy()
        return w - config.lr * RMS * np.sqrt(max(w.shape)) * turned

    return rule


def rmsprop(config: RMSpropConfig) -> Rule:
    def rule(w: np.ndarray, g: np.ndarray, state: State, _: int) -> np.ndarray:
        v = state["v"] = config.alpha * state.get("v", 0 * g) + (1 - config.alpha) * g**2
        b = state["b"] = config.momentum * state.get("b", 0 * g) + g / (np.sqrt(v) + 1e-8)
        return w - config.lr * b

    return rule


def adagrad(config: AdagradConfig) -> Rule:
    def rule(w: np.ndarray, g: np.ndarray, state: State, _: int) -> np.ndarray:
        total = state["sum"] = state.get("sum", 0 * g) + g**2
        return w - config.lr * g / (np.sqrt(total) + 1e-10)

    return rule


def adadelta(config: AdadeltaConfig) -> Rule:
    def rule(w: np.ndarray, g: np.ndarray, state: State, _: int) -> np.ndarray:
        v = state["v"] = config.rho * state.get("v", 0 * g) + (1 - config.rho) * g**2
        d = np.sqrt(state.get("u", 0 * g) + 1e-6) / np.sqrt(v + 1e-6) * g
        state["u"] = config.rho * state.get("u", 0 * g) + (1 - config.rho) * d**2
        return w - config.lr * d

    return rule


MUON = MuonConfig(lr=0.05, weight_decay=0.3, momentum=0.8, betas=(0.7, 0.95))
REFERENCES = {
    "sgd": (SGDConfig(lr=0.05, weight_decay=0.3, momentum=0.8, nesterov=True), sgd, "gradient"),
    "sgd, heavy ball": (SGDConfig(lr=0.05, weight_decay=0.3, momentum=0.8, nesterov=False), sgd, "gradient"),
    "sgd, no momentum": (SGDConfig(lr=0.05, weight_decay=0.3, momentum=0), sgd, "gradient"),
    "adam": (AdamConfig(lr=0.05, weight_decay=0.3, betas=(0.7, 0.95)), adam, "gradient"),
    "adamw": (AdamWConfig(lr=0.05, weight_decay=0.3, betas=(0.7, 0.95)), adam, "weights"),
    "muon": (MUON, muon, "weights"),
    "rmsprop": (RMSpropConfig(lr=0.05, weight_decay=0.3, alpha=0.8, momentum=0.5), rmsprop, "gradient"),
    "adagrad": (AdagradConfig(lr=0.3, weight_decay=0.3), adagrad, "gradient"),
    "adadelta": (AdadeltaConfig(lr=5.0, weight_decay=0.3, rho=0.8), adadelta, "gradient"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_an_optimiser_does_what_its_paper_says(name: str):
    config, make, decays = REFERENCES[name]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    ours = {key: p.detach().double().numpy() for key, p in net.named_parameters()}
    states: dict[str, State] = {key: {} for key in ours}
    optimizer, x = build_optimizer(net, config), torch.randn(8, 3)
    for step in range(1, 7):
        gradients = gradients_of(net, x)
        optimizer.step()
        for key, g in gradients.items():
            w, decay = ours[key], config.weight_decay if key.endswith("weight") else 0.0
            rule = adam(config) if make is muon and key != "1.weight" else make(config)
            if decays == "weights":
                ours[key] = rule(w * (1 - config.lr * decay), g, states[key], step)
            else:
                ours[key] = rule(w, g + decay * w, states[key], step)
    for key, p in net.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), ours[key], rtol=2e-3, atol=2e-4, err_msg=key)


def gradients_of(net: nn.Module, x: Tensor) -> dict[str, np.ndarray]:
    net.zero_grad()
    (net(x) - x[:, :2]).square().mean().backward()
    return {key: p.grad.double().numpy() for key, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.kind)
def test_each_optimiser_goes_downhill(config: OptimizerConfig):
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    optimizer = build_optimizer(net, config)
    losses = []
    for _ in range(40):
        loss = net(torch.ones(4, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.kind)
def test_the_rate_is_a_share_of_the_peak_and_the_peak_is_saved(config: OptimizerConfig):
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    assert peak_of(optimizer) == config.lr
    set_peak(optimizer, 0.5)
    set_rate(optimizer, 0.1)
    assert {group["lr"] for group in optimizer.param_groups} == {0.05}
    resumed = build_optimizer(nn.Linear(2, 2), config.model_validate(config.model_dump() | {"lr": "auto"}))
    resumed.load_state_dict(optimizer.state_dict())
    assert peak_of(resumed) == 0.5
