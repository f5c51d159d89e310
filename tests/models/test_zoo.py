"""What every network of the zoo promises: one line in KINDS, and the next kind is held to it too."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from data.spec import ImageSpec
from models.bundle.graph import calibrated, to_onnx
from models.config import Experiment, TrainConfig
from models.evaluation.inference import validate
from models.records import PixelStatistics
from models.training.config import MuonConfig
from models.training.fit import train_step
from models.training.optim import build_optimizer
from models.zoo.build import build
from models.zoo.cnn import CNN, Block, generalised_mean, plan
from models.zoo.config import CNNConfig, ModelConfig, WhitenedConfig
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
from models.zoo.config_transformer import ConvViTConfig, ViTConfig
from models.zoo.vit import choose_patch

KINDS = [  # narrow, so that all of this takes seconds
    CNNConfig(width=8),
    ViTConfig(dim=16, depth=2, heads=2),
    ConvViTConfig(dim=16, depth=2, heads=2),
    SoftmaxConfig(),
    MLPConfig(width=32),
    MLPConfig(width=32, depth=2, activation="sigmoid"),
    LeNetConfig(),
    AlexNetConfig(width=8, hidden=64, dropout=0),
    VGGConfig(layers=11, width=8, hidden=64, dropout=0),
    VGGConfig(layers=11, width=8, hidden=64, dropout=0, batch_norm=False),
    ResNetConfig(layers=18, width=8),
    pytest.param(ResNetConfig(layers=50, width=4), marks=pytest.mark.slow),
    STNConfig(width=8),
    LSTMConfig(width=32),
    WhitenedConfig(width=8),
]
each_kind = pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
BY_HEART = KINDS[:2] + [k if hasattr(k, "marks") else pytest.param(k, marks=pytest.mark.slow) for k in KINDS[2:]]
SIDES = (8, 28, 32, 33, 64, 224)


def square(side: int, channels: int = 3) -> ImageSpec:
    return ImageSpec(height=side, width=side, channels=channels)


def network(config: ModelConfig, image: ImageSpec, num_classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    statistics = PixelStatistics(mean=(0.5,) * image.channels, std=(0.25,) * image.channels)
    return build(config, image, statistics, num_classes)


def noise(num: int, image: ImageSpec) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, image.height, image.width, image.channels), generator=generator).byte()


@torch.no_grad()
def stirred(net: nn.Module) -> nn.Module:
    """Away from the zeros and identities that some parts start as."""
    for weight in net.parameters():
        weight.add_(torch.randn_like(weight), alpha=0.02)
    return net


@each_kind
@pytest.mark.parametrize(
    "image",
    [*(square(side, 1 if side < 32 else 3) for side in SIDES), ImageSpec(height=24, width=40)],
    ids=lambda image: f"{image.height}x{image.width}",
)
def test_a_network_looks_at_any_size(config: ModelConfig, image: ImageSpec):
    assert network(config, image)(noise(2, image)).shape == (2, 5)


@each_kind
@pytest.mark.parametrize("num_classes", [2, 100])
def test_the_first_loss_is_that_of_guessing(config: ModelConfig, num_classes: int):
    image = square(16)
    logits = network(config, image, num_classes)(noise(64, image))
    loss = F.cross_entropy(logits, torch.arange(64) % num_classes)
    assert loss.item() == pytest.approx(math.log(num_classes), rel=0.05)


@each_kind
def test_every_weight_learns(config: ModelConfig):
    """Within three steps: what starts at zero holds back the layers before it for one."""
    image = square(16)
    net = network(config, image).train()
    before = {name: weight.clone() for name, weight in net.named_parameters() if weight.requires_grad}
    optimizer = build_optimizer(net, MuonConfig(weight_decay=0))
    for _ in range(3):
        train_step(net, optimizer, noise(8, image), torch.arange(8) % 5, config=TrainConfig(precision="float32"))
    assert [
        name for name, weight in net.named_parameters() if name in before and torch.equal(weight, before[name])
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("config", BY_HEART, ids=lambda config: config.kind)
def test_the_defaults_learn_32_pictures_by_heart(config: ModelConfig):
    """Noise with labels that it does not tell, and the optimiser that is used where no other is chosen."""
    image, labels = square(16), torch.arange(32) % 4
    net, pixels = network(config, image, 4), noise(32, image)
    optimizer = build_optimizer(net, Experiment().optimizer)
    settings = TrainConfig(label_smoothing=0, precision="float32")
    for step in range(1, 201):
        train_step(net.train(), optimizer, pixels, labels, config=settings)
        if step % 10 == 0 and validate(net, [(pixels, labels)], precision="float32").accuracy == 1:
            return
    pytest.fail(f"{config.kind} has not learnt 32 pictures in 200 steps")


@each_kind
def test_a_picture_is_answered_alike_alone_and_in_a_batch(config: ModelConfig):
    image = square(16)
    net, pixels = stirred(network(config, image)).eval(), noise(6, image)
    torch.testing.assert_close(net(pixels)[2:3], net(pixels[2:3]), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@each_kind
def test_the_exported_graph_takes_any_batch_and_answers_alike(config: ModelConfig):
    image = square(16)
    net = calibrated(stirred(network(config, image)), 1.0)
    to_onnx(net, image, tolerance=1e-4)  # raises unless batches of 1, 3 and 8 agree


def test_a_residual_block_starts_as_the_identity():
    x = torch.rand(2, 8, 4, 4)
    assert torch.equal(Block(8)(x), x)


@pytest.mark.parametrize(
    ("side", "patch"), [(8, 2), (16, 2), (32, 4), (28, 4), (64, 8), (96, 12), (224, 28), (7, 1), (4, 2)]
)
def test_the_patch_is_the_divisor_nearest_to_an_eighth(side: int, patch: int):
    assert choose_patch(square(side)) == patch


def test_a_patch_that_does_not_divide_is_refused_with_those_that_do():
    with pytest.raises(InputError, match=r"patch 5 does not divide a 32 x 32 picture; use one of 1, 2, 4, 8, 16, 32"):
        network(ViTConfig(patch=5), square(32))


@pytest.mark.parametrize("side", [8, 16, 28, 32, 48, 64, 96, 128, 224])
def test_the_last_stage_sees_more_than_one_position(side: int):
    halvings, stages = plan(side)
    assert 2 <= side / 2 ** (halvings + stages - 1) <= 16


def test_the_generalised_mean_lies_between_mean_and_maximum_and_learns_from_silent_places():
    x = torch.rand(3, 5, 4, 4)
    pooled = generalised_mean(x)
    assert (x.mean(dim=(2, 3)) < pooled).all()
    assert (pooled < x.amax(dim=(2, 3))).all()
    torch.testing.assert_close(generalised_mean(torch.full((1, 2, 3, 3), 0.7)), torch.full((1, 2), 0.7))
    silent = torch.zeros(1, 1, 2, 2, requires_grad=True)
    generalised_mean(silent).sum().backward()
    assert torch.isfinite(silent.grad).all()


@pytest.mark.parametrize(("pool", "pooled"), [("mean", lambda x: x.mean(dim=(2, 3))), ("gem", generalised_mean)])
def test_a_cnn_pools_its_last_stage_as_it_is_told_to(pool, pooled):
    net = CNN(CNNConfig(width=8, pool=pool), square(16), 4).eval()
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(net(x), net.head(pooled(net.features(x))))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@each_kind
def test_a_gpu_learns_in_bfloat16(config: ModelConfig):
    learns_in_bfloat16(config, torch.device("cuda"))


@pytest.mark.slow
@each_kind
def test_a_processor_learns_in_bfloat16(config: ModelConfig):
    learns_in_bfloat16(config, torch.device("cpu"))


def learns_in_bfloat16(config: ModelConfig, device: torch.device) -> None:
    """Bright and dark pictures, which a linear layer can tell; the weights stay float32."""
    image, labels = square(16), (torch.arange(32) % 2).to(device)
    net = network(config, image, 2).to(device).train()
    pixels = ((noise(32, image).to(device).float() + 255 * labels.view(-1, 1, 1, 1)) / 2).byte()
    optimizer = build_optimizer(net, Experiment().optimizer)
    settings = TrainConfig(label_smoothing=0, precision="bfloat16")
    losses = [float(train_step(net, optimizer, pixels, labels, config=settings)[0]) for _ in range(40)]
    assert losses[-1] < losses[0] / 2
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}
