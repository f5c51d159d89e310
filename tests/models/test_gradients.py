"""The norm of each layer's gradient: what is recorded is what an ordinary backward pass gives."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from data.prepare import Dataset
from models.config import Experiment
from models.records import EpochRecord
from models.run import open_run
from models.training.gradients import by_layer, clip
from models.training.learn import learn

GAPS = (-1e-6, 0.0, 1e-6, 2e-6)  # about the norm at which clipping begins


def weights_with_gradients() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.zeros(shape, requires_grad=True) for shape in ((3, 4), (4,), (2, 3))]
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)
    return weights


def norm_of(weights: list[torch.Tensor]) -> float:
    return float(torch.cat([weight.grad.flatten() for weight in weights]).norm())


@pytest.mark.parametrize("limit", [0.1, 1e9, math.inf, *(norm_of(weights_with_gradients()) + gap for gap in GAPS)])
def test_clipping_gives_the_norms_of_before_and_the_bits_of_the_ordinary_one(limit: float):
    ours, theirs = weights_with_gradients(), weights_with_gradients()
    norms = clip(ours, limit)
    before = [float(w.grad.norm()) for w in theirs]
    joint = nn.utils.clip_grad_norm_(theirs, limit)
    assert norms.tolist() == pytest.approx([float(joint), *before])
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("limit", [1e9, math.inf])
def test_gradients_that_need_no_clipping_are_not_written_to(limit: float):
    weights = weights_with_gradients()
    before = [weight.grad._version for weight in weights]
    clip(weights, limit)
    assert [weight.grad._version for weight in weights] == before


def test_a_gradient_that_is_no_number_is_seen_in_the_norm_and_clipped_to_none():
    weights = weights_with_gradients()
    weights[1].grad[0] = math.nan
    assert math.isnan(clip(weights, 1.0)[0])
    assert all(weight.grad.isnan().all() for weight in weights), "as torch does it"


def test_a_weight_that_no_gradient_reaches_counts_as_zero():
    weights = weights_with_gradients()
    weights[1].grad = None
    before = [float(weight.grad.norm()) for weight in (weights[0], weights[2])]
    assert clip(weights, 1.0)[1:].tolist() == pytest.approx([before[0], 0, before[1]])


def test_layers_are_named_input_first_whatever_the_order_of_the_optimiser():
    net = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 2)))
    weights = [net[1][2].weight, net[1][0].bias, net[1][0].weight]
    assert by_layer(net, weights, [1.0, 2.0, 3.0]) == {"0": 3.0, "2": 1.0}


def test_a_network_of_one_layer_has_a_name_for_it():
    net = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    assert by_layer(net, [net[1].weight], [1.0]) == {"1": 1.0}


@pytest.mark.slow
def test_every_epoch_holds_the_norms_of_its_layers(tiny: Experiment, toy: Dataset, tmp_path: Path):
    folder = open_run(tmp_path, tiny, "0" * 64)
    learn(tiny, toy, folder)
    for record in folder.history():
        assert record.grad_norm_by_layer is not None
        assert {"features.0.kernel", "head"} <= record.grad_norm_by_layer.keys()
        joined = sum(norm**2 for norm in record.grad_norm_by_layer.values()) ** 0.5
        assert 0 < joined <= 1.05 * record.grad_norm  # the biases' part is missing, and means of norms are not squares


def test_a_history_of_before_still_opens():
    old = (
        '{"epoch":0,"step":1,"lr":0.1,"train_loss":1.0,"val_loss":1.0,"val_accuracy":0.5,'
        '"grad_norm":1.0,"seconds":1.0,"images_per_s":1.0}'
    )
    assert EpochRecord.model_validate_json(old).grad_norm_by_layer is None
