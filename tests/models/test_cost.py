import pytest
import torch

from data.spec import ImageSpec
from models.records import PixelStatistics
from models.zoo.build import build
from models.zoo.config import ModelConfig, ViTConfig
from models.zoo.config_classic import LeNetConfig, LSTMConfig, MLPConfig, ResNetConfig
from models.zoo.cost import cost


def network(config: ModelConfig, image: ImageSpec, num_classes: int = 10) -> torch.nn.Module:
    statistics = PixelStatistics(mean=(0.5,) * image.channels, std=(0.25,) * image.channels)
    return build(config, image, statistics, num_classes)


def attention(tokens: int, dim: int) -> int:
    """Multiply-adds of a block: qkv, products, weighted sum, out, and an MLP of twice the width."""
    return tokens * dim * 3 * dim + 2 * tokens * tokens * dim + tokens * dim * dim + 2 * tokens * dim * 2 * dim


@pytest.mark.parametrize(
    ("config", "side", "channels", "multiply_adds"),
    [
        (MLPConfig(width=7), 8, 1, 64 * 7 + 7 * 10),
        (LeNetConfig(), 32, 1, 784 * 6 * 25 + 100 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10),
        (LSTMConfig(width=16), 8, 1, 8 * 4 * 16 * (8 + 16) + 16 * 10),
        (ViTConfig(patch=4, dim=8, depth=2, heads=2), 16, 3, 16 * 48 * 8 + 2 * attention(16, 8) + 8 * 10),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_flops_are_twice_the_multiply_adds_counted_by_hand(
    config: ModelConfig, side: int, channels: int, multiply_adds: int
):
    image = ImageSpec(height=side, width=side, channels=channels)
    assert cost(network(config, image), image).flops == 2 * multiply_adds


def test_resnet_18_costs_what_the_paper_says():
    image = ImageSpec(height=224, width=224)
    found = cost(network(ResNetConfig(), image, 1000), image)
    assert found.parameters == 11_689_512
    assert found.flops / 2 == pytest.approx(1.8e9, rel=0.02)


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_network_as_it_was_and_says_nothing(training: bool, recwarn: pytest.WarningsRecorder):
    image = ImageSpec(height=8, width=8)
    net = network(ResNetConfig(width=4), image).train(training)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    cost(net, image)
    assert torch.backends.mkldnn.enabled
    assert torch.backends.cudnn.enabled
    assert not list(recwarn)
    assert net.training == training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(weight.grad is None for weight in net.parameters())
