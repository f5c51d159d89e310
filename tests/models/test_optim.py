from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.training.config import AdamWConfig, MuonConfig, OptimizerConfig, ScheduleConfig, SGDConfig
from models.training.optim import build_optimizer, factor, parameter_groups


def course(total_steps: int, **settings: object) -> list[float]:
    config = ScheduleConfig(**settings)
    return [factor(step, total_steps=total_steps, config=config) for step in range(total_steps)]


def test_the_rate_rises_in_equal_parts_and_falls_to_the_final_share():
    rates = course(100, warmup=0.1, final=0.01)
    rises = [after - before for before, after in pairwise(rates[:11])]
    assert rises == pytest.approx([1 / 11] * 10)
    assert rates[10] == 1.0
    assert rates[-1] == pytest.approx(0.01)
    assert all(after < before for before, after in pairwise(rates[10:]))


def test_half_of_the_cosine_is_half_way_down():
    assert course(101, warmup=0, final=0.0)[50] == pytest.approx(0.5)


def test_a_constant_rate_stays_after_its_warm_up():
    assert course(10, kind="constant", warmup=0.2)[2:] == [1.0] * 8


@given(st.integers(1, 50), st.floats(0, 0.99), st.floats(0, 1), st.sampled_from(["cosine", "constant"]))
def test_every_step_learns_and_none_above_the_peak(total: int, warmup: float, final: float, kind: str):
    rates = course(total, warmup=warmup, final=final, kind=kind)
    assert max(rates) == 1.0
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[0] > 0


@pytest.mark.parametrize(
    "config", [AdamWConfig(weight_decay=0.3), SGDConfig(weight_decay=0.3), MuonConfig(weight_decay=0.3)]
)
def test_biases_and_norms_do_not_decay(config: OptimizerConfig):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decay = {p: group["weight_decay"] for group in build_optimizer(net, config).param_groups for p in group["params"]}
    assert len(decay) == len(list(net.parameters()))
    assert all(decay[p] == (0.3 if p.ndim >= 2 else 0.0) for p in net.parameters())


def test_frozen_weights_are_left_out():
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(net, weight_decay=0.1)) == 1


@pytest.mark.parametrize(
    "config", [AdamWConfig(lr=0.05), SGDConfig(lr=0.05), SGDConfig(lr=0.05, momentum=0), MuonConfig(lr=0.05)]
)
def test_each_optimiser_goes_downhill(config: OptimizerConfig):
    net = nn.Linear(3, 1)
    optimizer = build_optimizer(net, config)
    losses = []
    for _ in range(20):
        loss = net(torch.ones(4, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
