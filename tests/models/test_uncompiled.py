"""Optimisers that do without torch's compiler: what they compute and keep is what torch's own do."""

import copy
import subprocess
import sys

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
from models.training.muon import Muon
from models.training.optim import build_optimizer
from models.training.uncompiled import WRAPPED, uncompiled

KINDS = [
    (torch.optim.AdamW, {"fused": True}),
    (torch.optim.SGD, {"fused": True, "momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"fused": True}),
    (torch.optim.RMSprop, {}),
    (torch.optim.Adagrad, {}),
    (torch.optim.Adadelta, {}),
    (Muon, {"weight_decay": 0.1, "momentum": 0.9, "betas": (0.9, 0.99)}),
]
CONFIGS = (AdamWConfig, SGDConfig, MuonConfig, AdamConfig, RMSpropConfig, AdagradConfig, AdadeltaConfig)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def steps(net: nn.Module, optimizer: torch.optim.Optimizer, num: int) -> list[Tensor]:
    """The weights after them."""
    for step in range(num):
        optimizer.zero_grad()
        net(torch.full((2, 6), 0.5 + step)).square().sum().backward()
        optimizer.step()
    return [weight.detach().clone() for weight in net.parameters()]


@pytest.mark.parametrize(("kind", "settings"), KINDS, ids=lambda given: getattr(given, "__name__", ""))
def test_steps_and_state_are_those_of_torch(kind: type[torch.optim.Optimizer], settings: dict[str, object]):
    theirs, ours = network(), network()
    reference = kind(theirs.parameters(), lr=0.01, **settings)
    optimizer = uncompiled(kind)(ours.parameters(), lr=0.01, **settings)
    assert all(map(torch.equal, steps(theirs, reference, 3), steps(ours, optimizer, 3)))
    state, expected = optimizer.state_dict(), reference.state_dict()
    assert state["param_groups"] == expected["param_groups"]
    assert [s.keys() for s in state["state"].values()] == [s.keys() for s in expected["state"].values()]
    resumed = uncompiled(kind)(ours.parameters(), lr=1.0, **settings)
    resumed.load_state_dict(copy.deepcopy(expected))  # a checkpoint of the one serves the other
    assert all(map(torch.equal, steps(theirs, reference, 2), steps(ours, resumed, 2)))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config().kind)
def test_every_optimiser_is_one(config: type[OptimizerConfig]):
    optimizer = build_optimizer(network(), config())
    assert {"step", *WRAPPED} <= vars(type(optimizer)).keys()


@pytest.mark.slow
def test_a_step_of_training_imports_neither_the_compiler_nor_symbolic_mathematics_nor_scipy():
    code = """
import sys
import torch
import models.training.learn
from models.config import TrainConfig
from models.training.config import MuonConfig
from models.training.optim import build_optimizer
from models.training.step import train_step
net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
optimizer = build_optimizer(net, MuonConfig())
train_step(net, optimizer, torch.ones(2, 4), torch.tensor([0, 1]), config=TrainConfig())
optimizer.load_state_dict(optimizer.state_dict())
sys.exit(", ".join({"torch._dynamo", "sympy", "scipy"} & sys.modules.keys()) or None)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
