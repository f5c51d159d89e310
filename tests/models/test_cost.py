import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data.spec import ImageSpec
from models.records import PixelStatistics
from models.zoo.build import build
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
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.config_transformer import (
    ClusteredAttention,
    ConvViTConfig,
    GlobalAttention,
    LinearAttention,
    LinformerAttention,
    LocalAttention,
    SinkhornAttention,
    StridedAttention,
    SynthesizerAttention,
    ViTConfig,
)
from models.zoo.cost import cost, plain

ATTENTIONS = [
    LocalAttention,
    StridedAttention,
    GlobalAttention,
    ClusteredAttention,
    SinkhornAttention,
    LinformerAttention,
    LinearAttention,
    SynthesizerAttention,
]


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


@pytest.mark.parametrize(
    "config",
    [
        CNNConfig(width=8),
        ViTConfig(dim=16, depth=2, heads=2),
        ConvViTConfig(dim=16, depth=2, heads=2),
        SoftmaxConfig(),
        MLPConfig(width=32),
        LeNetConfig(),
        AlexNetConfig(width=8, hidden=64),
        VGGConfig(layers=11, width=8, hidden=64),
        ResNetConfig(width=8),
        STNConfig(width=8),
        LSTMConfig(width=32),
        WhitenedConfig(width=8),
        PretrainedConfig(backbone="mobilenet_v3_small"),
        *(ViTConfig(dim=16, depth=1, heads=2, attention=kind()) for kind in ATTENTIONS),
    ],
    ids=lambda config: f"{config.kind}-{config.attention.kind}" if hasattr(config, "attention") else config.kind,
)
def test_of_every_network_flops_are_counted_and_three_pictures_cost_three_times_one(config: ModelConfig):
    """What depends on the pictures and is not counted, or is counted once for all of them, would show."""
    image = ImageSpec(height=32, width=32)
    net = network(config, image).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), plain(), counter:
        net(torch.zeros(3, 32, 32, 3, dtype=torch.uint8))
    assert counter.get_total_flops() == 3 * cost(net, image).flops > 0


@pytest.mark.slow
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


def test_adapters_weigh_something_and_cost_an_answer_nothing():
    image = ImageSpec(height=32, width=32, channels=3)
    costs = [
        cost(network(PretrainedConfig(backbone="mobilenet_v3_small", tune=tune), image), image)
        for tune in ("head", "adapter")
    ]
    assert costs[0].flops == costs[1].flops
    assert costs[0].parameters < costs[1].parameters
