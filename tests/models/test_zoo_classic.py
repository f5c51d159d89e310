"""The classic networks: published sizes, what is adapted from which picture on, and the parts that are theirs alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from data.spec import ImageSpec
from models.config import Experiment, TrainConfig
from models.records import PixelStatistics
from models.training.fit import train_step
from models.training.optim import build_optimizer
from models.zoo.alexnet import last_side, stem
from models.zoo.build import build
from models.zoo.config import ModelConfig
from models.zoo.config_classic import (
    AlexNetConfig,
    LeNetConfig,
    LSTMConfig,
    MLPConfig,
    ResNetConfig,
    SoftmaxConfig,
    STNConfig,
    VGGConfig,
)
from models.zoo.lenet import Squash
from models.zoo.lstm import LSTM
from models.zoo.mlp import MLP
from models.zoo.stn import Transformer


def network(config: ModelConfig, side: int, *, channels: int = 3, num_classes: int = 1000) -> nn.Module:
    """Without memory for its weights: only their shapes."""
    image = ImageSpec(height=side, width=side, channels=channels)
    statistics = PixelStatistics(mean=(0.5,) * channels, std=(0.25,) * channels)
    with torch.device("meta"):
        return build(config, image, statistics, num_classes)


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (AlexNetConfig(), 61_100_840),
        (VGGConfig(layers=11), 132_868_840),
        (VGGConfig(layers=13), 133_053_736),
        (VGGConfig(layers=16), 138_365_992),
        (VGGConfig(layers=19), 143_678_248),
        (VGGConfig(layers=16, batch_norm=False), 138_357_544),
        (ResNetConfig(layers=18), 11_689_512),
        (ResNetConfig(layers=34), 21_797_672),
        (ResNetConfig(layers=50), 25_557_032),
    ],
    ids=str,
)
def test_the_published_form_has_the_published_number_of_parameters(config: ModelConfig, published: int):
    assert parameters(network(config, 224)) == published


def test_lenet_differs_from_the_papers_60_000_parameters_by_what_its_docstring_says():
    assert parameters(network(LeNetConfig(), 32, channels=1, num_classes=10)) == 60_000 + 900 - 44 + 850
    assert parameters(network(LeNetConfig(), 28, channels=1, num_classes=10)) == 61_706


def test_the_plain_networks_have_the_parameters_counted_by_hand():
    assert parameters(network(SoftmaxConfig(), 8, channels=1, num_classes=10)) == 64 * 10 + 10
    two = MLPConfig(depth=2, width=7)
    assert parameters(network(two, 8, channels=1, num_classes=10)) == (64 * 7 + 7) + (7 * 7 + 7) + (7 * 10 + 10)
    gates = 4 * (8 * 6 + 6 * 6 + 2 * 6)
    assert parameters(network(LSTMConfig(width=6), 8, channels=1, num_classes=10)) == gates + 6 * 10 + 10


@pytest.mark.parametrize("side", [8, 16, 28, 32, 63, 64, 127, 128, 224, 448])
@pytest.mark.parametrize("config", [AlexNetConfig(), VGGConfig(layers=11)], ids=lambda config: config.kind)
def test_the_fully_connected_layers_stay_within_the_published_size(config: ModelConfig, side: int):
    assert parameters(network(config, side)) < 1.4 * 138_365_992


@pytest.mark.parametrize(("side", "left"), [(8, 1), (16, 2), (32, 4), (48, 6), (64, 4), (96, 6), (128, 3), (224, 6)])
def test_alexnet_leaves_a_map_of_every_picture(side: int, left: int):
    assert last_side(side, stem(side)) == left


@pytest.mark.parametrize(("side", "left"), [(8, 4), (16, 4), (28, 4), (32, 4), (64, 2), (224, 7)])
def test_resnet_leaves_4_pixels_of_a_small_picture(side: int, left: int):
    net = network(ResNetConfig(), side)[1]
    picture = torch.zeros(1, 3, side, side, device="meta")
    assert net.blocks(net.stem(picture)).shape == (1, 512, left, left)  # type: ignore[operator,union-attr]


def test_a_residual_block_of_one_shape_starts_as_the_identity():
    block = build(
        ResNetConfig(width=4), ImageSpec(height=8, width=8), PixelStatistics(mean=(0.5,) * 3, std=(1.0,) * 3), 2
    )[1].blocks[0]  # type: ignore[union-attr,index]
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(x), x)  # type: ignore[operator]


def test_lenet_refuses_a_picture_of_which_nothing_would_be_left():
    with pytest.raises(InputError, match=r"model.kind lenet .* 3 x 3 .* dataset.size to 4 or more"):
        network(LeNetConfig(), 3)
    network(LeNetConfig(), 4)


def test_lenets_squashing_function_keeps_1():
    assert Squash()(torch.ones(1)).item() == pytest.approx(1, abs=1e-4)


def test_softmax_regression_is_one_linear_map_that_starts_at_zero():
    net = MLP(MLPConfig(depth=0), ImageSpec(height=4, width=5), 3)
    assert [weight.shape for weight in net.parameters()] == [(3, 60), (3,)]
    assert not any(weight.any() for weight in net.parameters())


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu", "sigmoid", "tanh", "gelu"])
def test_a_perceptron_by_hand(activation: str):
    functions = {"linear": lambda x: x, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    f = functions.get(activation) or getattr(F, activation)
    torch.manual_seed(0)
    net = MLP(MLPConfig(depth=2, width=6, activation=activation), ImageSpec(height=2, width=3, channels=1), 3)
    w1, b1, w2, b2, w3, b3 = net.parameters()
    x = torch.randn(4, 1, 2, 3)
    torch.testing.assert_close(net(x), f(f(x.flatten(1) @ w1.T + b1) @ w2.T + b2) @ w3.T + b3)


# The Spatial Transformer

TALL = ImageSpec(height=9, width=12, channels=1)


def test_a_spatial_transformer_starts_as_the_identity():
    x = torch.randn(2, 1, 9, 12)
    torch.testing.assert_close(Transformer(TALL)(x), x, atol=1e-5, rtol=0)


def test_its_grid_is_that_of_affine_grid():
    pose = torch.randn(5, 2, 3)
    torch.testing.assert_close(
        Transformer(TALL).grid(pose), F.affine_grid(pose, [5, 1, 9, 12], align_corners=False), atol=1e-5, rtol=1e-5
    )


def test_each_picture_is_moved_by_its_own_pose():
    transformer, x = Transformer(TALL), torch.randn(2, 1, 9, 12)
    half_turn = torch.tensor([[-1.0, 0, 0], [0, -1, 0]])
    poses = torch.stack([half_turn, torch.eye(3)[:2]])
    transformer.pose.forward = lambda _: poses  # type: ignore[method-assign]
    moved = transformer(x)
    torch.testing.assert_close(moved[0], x[0].flip(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[1], x[1], atol=1e-5, rtol=0)


def test_positions_are_not_rounded_to_bfloat16():
    torch.manual_seed(0)
    transformer, x = Transformer(TALL), torch.rand(1, 1, 9, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved = transformer(x)
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved, x, atol=1e-5, rtol=0)


# The LSTM


def by_hand(cells: nn.LSTM, rows: Tensor) -> Tensor:
    """rows (B, T, N) -> the last state (B, D)."""
    w, u, b, c = cells.weight_ih_l0, cells.weight_hh_l0, cells.bias_ih_l0, cells.bias_hh_l0
    state = memory = torch.zeros(len(rows), cells.hidden_size)
    for row in rows.unbind(1):
        i, f, g, o = (row @ w.T + b + state @ u.T + c).chunk(4, dim=1)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
        state = torch.sigmoid(o) * torch.tanh(memory)
    return state


def test_the_lstm_reads_rows_from_top_to_bottom():
    torch.manual_seed(0)
    net = LSTM(LSTMConfig(width=6), ImageSpec(height=5, width=4), 3)
    x = torch.randn(2, 3, 5, 4)
    rows = torch.stack([x[:, :, row].transpose(1, 2).flatten(1) for row in range(5)], dim=1)
    torch.testing.assert_close(net(x), net.head(by_hand(net.cells, rows)), atol=1e-5, rtol=1e-4)


def test_the_forget_gate_starts_open_and_the_recurrence_orthogonal():
    cells = LSTM(LSTMConfig(width=6, depth=2), ImageSpec(height=5, width=4), 3).cells
    for layer in ("l0", "l1"):
        bias = getattr(cells, f"bias_ih_{layer}") + getattr(cells, f"bias_hh_{layer}")
        assert bias.tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12
        for gate in getattr(cells, f"weight_hh_{layer}").chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "config", [LSTMConfig(), STNConfig(), SoftmaxConfig(), VGGConfig(width=8, hidden=16)], ids=lambda c: c.kind
)
def test_muon_gets_no_recurrent_weight_no_pose_and_no_classifier(config: ModelConfig):
    net = network(config, 16, num_classes=10)
    chosen = {
        id(weight)
        for group in build_optimizer(net, Experiment().optimizer).param_groups
        if group["orthogonal"]
        for weight in group["params"]
    }
    names = [name for name, weight in net.named_parameters() if id(weight) in chosen]
    assert not [name for name in names if "cells" in name or "pose" in name or "head" in name]
    assert bool(names) == (config.kind in ("stn", "vgg"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [MLPConfig(), LeNetConfig(), AlexNetConfig(), VGGConfig(), ResNetConfig(), ResNetConfig(layers=50), LSTMConfig()],
    ids=str,
)
def test_the_default_width_learns_with_the_default_optimiser(config: ModelConfig):
    torch.manual_seed(0)
    image = ImageSpec(height=8, width=8, channels=1)
    net = build(config, image, PixelStatistics(mean=(0.5,), std=(0.3,)), 4).train()
    labels = torch.arange(32) % 4
    pixels = (torch.rand(32, 8, 8, 1) * 100 + 50 * labels.view(-1, 1, 1, 1)).byte()
    optimizer = build_optimizer(net, Experiment().optimizer)
    losses = [train_step(net, optimizer, pixels, labels, config=TrainConfig())[0].item() for _ in range(12)]
    assert losses[0] == pytest.approx(math.log(4), rel=0.3)
    assert min(losses[-3:]) < 0.8 * losses[0]
