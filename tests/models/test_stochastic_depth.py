"""Branches are skipped as the paper says, in training alone, and the networks are the same without."""

import pytest
import torch
from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.cnn import CNN
from models.zoo.config import CNNConfig
from models.zoo.config_classic import ResNetConfig
from models.zoo.resnet import ResNet
from models.zoo.stochastic_depth import StochasticDepth, rates

IMAGE = ImageSpec(height=32, width=32)


def made(kind: str, rate: float) -> nn.Module:
    torch.manual_seed(0)
    if kind == "cnn":
        return CNN(CNNConfig(width=8, stochastic_depth=rate), IMAGE, 5)
    return ResNet(ResNetConfig(layers=50 if kind == "bottlenecks" else 18, width=4, stochastic_depth=rate), IMAGE, 5)


def blocks_of(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(getattr(module, "skip", None), StochasticDepth)]


def test_stochastic_depth_skips_whole_pictures_and_keeps_the_mean():
    torch.manual_seed(0)
    skip, x = StochasticDepth(0.25), torch.ones(4000, 2, 3)
    seen = skip(x)
    assert seen.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert torch.equal(seen.amin(dim=(1, 2)), seen.amax(dim=(1, 2)))
    assert seen.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(skip.eval()(x), x)


def test_rates_grow_with_depth_to_that_of_the_last_block():
    assert rates(0.5, num=5) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates(0.5, num=1) == [0.5]


@pytest.mark.parametrize(("kind", "num"), [("cnn", 4), ("resnet", 8), ("bottlenecks", 16)])
def test_every_residual_block_has_its_rate(kind: str, num: int):
    assert [block.skip.rate for block in blocks_of(made(kind, 0.8))] == pytest.approx(rates(0.8, num=num))


@pytest.mark.parametrize("kind", ["cnn", "resnet", "bottlenecks"])
def test_the_last_branch_is_skipped_in_training_and_not_in_evaluation(kind: str):
    last = blocks_of(made(kind, 1 - 1e-6))[-1]
    with torch.no_grad():
        for weight in last.parameters():
            weight.add_(0.3 * torch.rand_like(weight))  # so that no branch is the zeros it starts as
    x = torch.rand(4, next(last.parameters()).shape[1], 4, 4)
    shortcut = last.shortcut(x) if hasattr(last, "shortcut") else x
    assert torch.equal(last.train()(x), torch.relu(shortcut))
    with torch.no_grad():
        assert not torch.allclose(last.eval()(x), torch.relu(shortcut), atol=1e-2)


@pytest.mark.parametrize("kind", ["cnn", "resnet"])
def test_a_network_starts_alike_with_any_rate_and_has_the_same_names(kind: str):
    without, skipping = made(kind, 0.0).state_dict(), made(kind, 0.5).state_dict()
    assert list(without) == list(skipping)
    assert all(torch.equal(tensor, skipping[name]) for name, tensor in without.items())


def test_a_rate_of_zero_draws_no_random_numbers():
    def answer(net: nn.Module) -> Tensor:
        torch.manual_seed(1)
        net(torch.rand(2, 3, 32, 32))
        return torch.rand(1)

    assert torch.equal(answer(made("cnn", 0.0).train()), answer(nn.Identity()))
