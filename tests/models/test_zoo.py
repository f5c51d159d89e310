import math

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.errors import InputError
from data.spec import ImageSpec
from models.records import PixelStatistics
from models.zoo.build import build
from models.zoo.cnn import Block, plan
from models.zoo.config import CNNConfig, ModelConfig
from models.zoo.config_transformer import ConvViTConfig, ViTConfig
from models.zoo.vit import choose_patch

KINDS = [CNNConfig(width=8), ViTConfig(dim=16, depth=2, heads=2), ConvViTConfig(dim=16, depth=2, heads=2)]


def square(side: int, channels: int = 3) -> ImageSpec:
    return ImageSpec(height=side, width=side, channels=channels)


def network(config: ModelConfig, image: ImageSpec, num_classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    statistics = PixelStatistics(mean=(0.5,) * image.channels, std=(0.25,) * image.channels)
    return build(config, image, statistics, num_classes)


def noise(num: int, image: ImageSpec) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num, image.height, image.width, image.channels), generator=generator).byte()


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
@pytest.mark.parametrize(
    "image",
    [square(8, 1), square(28, 1), square(33), square(64), square(224), ImageSpec(height=24, width=40)],
    ids=lambda image: f"{image.height}x{image.width}",
)
def test_a_network_looks_at_any_size(config: ModelConfig, image: ImageSpec):
    assert network(config, image)(noise(2, image)).shape == (2, 5)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
@pytest.mark.parametrize("num_classes", [2, 100])
def test_the_first_loss_is_that_of_guessing(config: ModelConfig, num_classes: int):
    image = square(16)
    logits = network(config, image, num_classes)(noise(64, image))
    loss = F.cross_entropy(logits, torch.arange(64) % num_classes)
    assert loss.item() == pytest.approx(math.log(num_classes), rel=0.05)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_every_weight_learns(config: ModelConfig):
    image = square(16)
    net = network(config, image)
    for block in net.modules():
        if isinstance(block, Block):  # whose second half starts at zero, and holds back the first for a step
            nn.init.ones_(block.second.norm.weight)
    F.cross_entropy(net(noise(8, image)), torch.arange(8) % 5).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_a_picture_is_answered_alike_alone_and_in_a_batch(config: ModelConfig):
    image = square(16)
    net, pixels = network(config, image).eval(), noise(6, image)
    torch.testing.assert_close(net(pixels)[2:3], net(pixels[2:3]), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_the_exported_graph_takes_any_batch(config: ModelConfig):
    image = square(16)
    net = network(config, image).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(net, (noise(2, image),), dynamic_shapes=shapes, verbose=False)
    graph = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for num in (1, 3, 8):
        (exported,) = session.run(None, {session.get_inputs()[0].name: noise(num, image).numpy()})
        torch.testing.assert_close(torch.from_numpy(exported), net(noise(num, image)), atol=1e-4, rtol=1e-3)


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
