"""Losses against their formulas, written out in numpy and float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.training.config import BinaryConfig, CrossEntropyConfig, FocalConfig, LossConfig
from models.training.losses import balanced, class_weights_for, loss_of

KINDS = [CrossEntropyConfig(), FocalConfig(gamma=2), FocalConfig(gamma=0.5), BinaryConfig()]
by_kind = pytest.mark.parametrize("config", KINDS, ids=["cross-entropy", "focal", "focal below 1", "binary"])
B, K = 6, 4
LABELS = torch.tensor([0, 1, 2, 3, 1, 0])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])


def logits(scale: float = 2.0) -> Tensor:
    return scale * torch.randn(B, K, generator=torch.Generator().manual_seed(0))


def mixtures() -> Tensor:
    shares = torch.rand(B, K, generator=torch.Generator().manual_seed(1))
    return shares / shares.sum(1, keepdim=True)


def formula(z: np.ndarray, t: np.ndarray, config: LossConfig, smoothing: float, weights: np.ndarray) -> float:
    total = 0.0
    for picture in range(len(z)):
        exponentials = np.exp(z[picture] - z[picture].max())
        p = exponentials / exponentials.sum()
        loss = 0.0
        for k in range(len(p)):
            share = (1 - smoothing) * t[picture, k] + smoothing / len(p)
            match config:
                case CrossEntropyConfig():
                    loss -= share * np.log(p[k])
                case FocalConfig():
                    loss -= share * (1 - p[k]) ** config.gamma * np.log(p[k])
                case BinaryConfig():
                    s = 1 / (1 + np.exp(-z[picture, k]))
                    loss -= share * np.log(s) + (1 - share) * np.log(1 - s)
        total += loss * (t[picture] * weights).sum()
    return total / len(z)


@by_kind
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@pytest.mark.parametrize("targets", [LABELS, mixtures()], ids=["labels", "mixtures"])
def test_a_loss_is_its_formula(config: LossConfig, smoothing: float, weighted: bool, targets: Tensor):
    shares = targets if targets.is_floating_point() else torch.eye(K)[targets]
    weights = WEIGHTS if weighted else torch.ones(K)
    expected = formula(logits().double().numpy(), shares.double().numpy(), config, smoothing, weights.double().numpy())
    found = loss_of(logits(), targets, config=config, smoothing=smoothing, class_weights=WEIGHTS if weighted else None)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@by_kind
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_finite_at_extreme_logits(config: LossConfig, smoothing: float):
    for extreme in (1e4, -1e4):
        for at in range(K):
            z = torch.zeros(1, K)
            z[0, at] = extreme
            z.requires_grad_()
            loss = loss_of(z, torch.tensor([1]), config=config, smoothing=smoothing, class_weights=WEIGHTS)
            loss.backward()
            assert loss.isfinite()
            assert z.grad is not None
            assert z.grad.isfinite().all()


@by_kind
def test_what_is_right_and_sure_costs_nothing_and_what_is_wrong_is_pulled_back(config: LossConfig):
    sure = torch.full((1, K), -30.0)
    sure[0, 2] = 30.0
    assert loss_of(sure, torch.tensor([2]), config=config, smoothing=0.0).item() == pytest.approx(0, abs=1e-6)
    wrong = (sure / 10).clone().requires_grad_()
    loss_of(wrong, torch.tensor([1]), config=config, smoothing=0.0).backward()
    assert wrong.grad is not None
    assert wrong.grad[0, 1] < 0 < wrong.grad[0, 2]


@by_kind
def test_bfloat16_logits_are_worked_on_in_float32(config: LossConfig):
    rough = logits().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_of(rough, mixtures(), config=config, smoothing=0.1, class_weights=WEIGHTS)
    assert found.dtype == torch.float32
    expected = loss_of(rough.float(), mixtures(), config=config, smoothing=0.1, class_weights=WEIGHTS)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@by_kind
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_the_parts_of_a_batch_add_up_to_the_whole(config: LossConfig, weights: Tensor | None):
    whole = loss_of(logits(), LABELS, config=config, smoothing=0.1, class_weights=weights)
    parts = [
        loss_of(logits()[rows], LABELS[rows], config=config, smoothing=0.1, class_weights=weights) * len(rows) / B
        for rows in (torch.arange(4), torch.arange(4, 6))
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)  # type: ignore[union-attr]


def test_focal_without_gamma_is_cross_entropy():
    focal = loss_of(logits(), LABELS, config=FocalConfig(gamma=0), smoothing=0.1)
    assert focal.item() == pytest.approx(
        loss_of(logits(), LABELS, config=CrossEntropyConfig(), smoothing=0.1).item(), rel=1e-6
    )


def test_binary_takes_several_classes_at_once_and_none():
    targets = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    z = torch.tensor([[20.0, 20.0, -20.0, -20.0], [-20.0, -20.0, -20.0, -20.0]])
    assert loss_of(z, targets, config=BinaryConfig(), smoothing=0.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_balanced_weights_are_one_on_average_and_give_every_class_its_equal_share(labels: list[int]):
    there = np.array(labels)
    weights = balanced(there, num_classes=5)
    assert weights[there].mean() == pytest.approx(1, rel=1e-5)
    sums = [weights[there][there == label].sum() for label in set(labels)]
    assert sums == pytest.approx([sums[0]] * len(sums), rel=1e-4)
    assert np.isfinite(weights).all()


def test_weights_are_made_only_if_they_are_asked_for():
    labels = np.array([0, 0, 0, 1])
    assert class_weights_for(FocalConfig(), labels, num_classes=2) is None
    weights = class_weights_for(FocalConfig(class_weights="balanced"), labels, num_classes=2)
    assert weights is not None
    assert weights.tolist() == pytest.approx([2 / 3, 2.0])
