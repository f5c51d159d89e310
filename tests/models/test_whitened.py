"""The network whose first layer is computed from the training pictures, and the preset that is made of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.errors import InputError
from data.loader import Pictures
from data.prepare import Dataset
from data.spec import ImageSpec
from flows.presets import CIFAR10_SPEED
from models.config import Experiment
from models.evaluation.evaluate import load_network
from models.records import PixelStatistics
from models.run import open_run
from models.training.checkpoint import Checkpoints
from models.training.learn import Learner, learn, learner_for, run_fit
from models.training.optim import build_optimizer
from models.training.pulse import Stopped
from models.zoo.build import build, start_from
from models.zoo.config import WhitenedConfig
from models.zoo.cost import cost
from models.zoo.whitened import FLOOR, SIDE, FixedScaleNorm, Whitened, mean_squares, whitening_kernels


@pytest.fixture
def small() -> Experiment:
    """The preset, as far as a toy bears it."""
    settings = CIFAR10_SPEED.model_dump()
    settings["model"]["width"] = 4
    settings["train"] |= {"epochs": 3, "batch_size": 16, "patience": None, "devices": "cpu"}
    return Experiment.model_validate(settings)


def learner_of(experiment: Experiment, toy: Dataset, *, pixels: np.ndarray | None = None) -> Learner:
    pictures = Pictures(toy.images.pixels if pixels is None else pixels)
    return learner_for(experiment, toy.images, pictures, train=toy.split.train, val=toy.split.val, seed=0)


def whitened_in(net: nn.Module) -> Whitened:
    (found,) = (module for module in net.modules() if isinstance(module, Whitened))
    return found


def natural(num: int, side: int, channels: int = 3) -> Tensor:
    """Neighbours are alike, as in photographs, and so are colours."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, 1, side + 2, side + 2, generator=generator)
    x = nn.functional.avg_pool2d(x, 3, stride=1) * 3
    return x + 0.1 * torch.randn(num, channels, side, side, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_first_layer_sees_of_training_pictures_is_white(channels: int):
    x = natural(300, 12, channels)
    kernels = whitening_kernels(x)
    half = channels * SIDE**2
    assert torch.equal(kernels[:half], -kernels[half:])
    seen = nn.functional.conv2d(x, kernels[:half]).transpose(0, 1).flatten(1).double()  # (half, places)
    squares = seen @ seen.T / seen.shape[1]
    assert FLOOR < 1e-3
    torch.testing.assert_close(squares, torch.eye(half, dtype=torch.float64), atol=0.08, rtol=0)  # the floor's share


@pytest.mark.parametrize("channels", [1, 3])
def test_what_kernels_are_made_of_is_as_exact_as_in_double_precision(channels: int):
    x = natural(300, 12, channels) + 5  # far from zero, where sums in float32 lose most
    patches = x.double().unfold(2, SIDE, 1).unfold(3, SIDE, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * SIDE**2)
    expected = patches.T @ patches / len(patches)
    torch.testing.assert_close(mean_squares(x), expected, atol=0, rtol=1e-6)


def test_pictures_of_one_colour_are_whitened_without_dividing_by_nothing():
    assert torch.isfinite(whitening_kernels(torch.zeros(4, 3, 8, 8))).all()


def test_the_first_layer_is_measured_on_training_pictures_alone(small: Experiment, toy: Dataset):
    others = toy.images.pixels.copy()
    others[np.concatenate([toy.split.val, toy.split.test])] = 7
    kernels = [whitened_in(learner_of(small, toy, pixels=pixels).net).whitening.weight for pixels in (None, others)]
    assert torch.equal(*kernels)
    seen = others.copy()
    seen[toy.split.train[::2]] //= 2
    assert not torch.equal(kernels[0], whitened_in(learner_of(small, toy, pixels=seen).net).whitening.weight)


def test_of_many_pictures_as_many_are_looked_at_as_are_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("models.zoo.build.LOOKED_AT", 3 * 64)
    image = ImageSpec(height=8, width=8)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    net = build(WhitenedConfig(width=4), image, PixelStatistics(mean=(0.5,) * 3, std=(0.25,) * 3), 2)
    start_from(net, Pictures(pixels), np.arange(10, 31), image)
    x = (torch.from_numpy(pixels[[10, 20, 30]]).float() / 255 - 0.5) / 0.25
    expected = whitening_kernels(x.permute(0, 3, 1, 2))
    torch.testing.assert_close(whitened_in(net).whitening.weight.abs(), expected.abs(), atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_the_first_layers_kernels_and_the_scales_of_norms_stay_as_they_are(small: Experiment, toy: Dataset):
    learner = learner_of(small, toy)
    before = whitened_in(learner.net).whitening.weight.clone()
    run_fit(small, learner)
    assert torch.equal(whitened_in(learner.net).whitening.weight, before)
    norms = [module for module in learner.net.modules() if isinstance(module, FixedScaleNorm)]
    assert len(norms) == 6
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in norms)
    assert all(norm.bias.any() for norm in norms)


@pytest.mark.slow
def test_a_killed_run_of_the_preset_ends_with_the_same_bits(small: Experiment, toy: Dataset, tmp_path: Path):
    seen = 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return seen == 5

    with pytest.raises(Stopped):
        run_fit(small, learner_of(small, toy), checkpoints=Checkpoints(tmp_path), stop=stop)
    resumed = run_fit(small, learner_of(small, toy), checkpoints=Checkpoints(tmp_path))
    whole = run_fit(small, learner_of(small, toy))
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in whole.weights.items())


@pytest.mark.slow
def test_a_run_folder_gives_the_first_layer_back(small: Experiment, toy: Dataset, tmp_path: Path):
    folder = open_run(tmp_path, small, "0" * 64)
    learn(small, toy, folder)
    measured = whitened_in(learner_of(small, toy).net).whitening.weight
    assert torch.equal(whitened_in(load_network(folder)).whitening.weight, measured)


def test_it_has_the_size_counted_by_hand_and_the_cost_that_was_published():
    image = ImageSpec(height=32, width=32)
    statistics = PixelStatistics(mean=(0.5,) * 3, std=(0.25,) * 3)
    found = cost(build(WhitenedConfig(), image, statistics, 10), image)
    assert found.parameters == 1_972_792
    assert 3 * found.flops * 50_000 * 8 == pytest.approx(0.29e15, rel=0.03)  # of 8 epochs, as airbench94_muon has it


def test_every_inner_kernel_is_muons(small: Experiment, toy: Dataset):
    net = learner_of(small, toy).net
    (inner,) = (g for g in build_optimizer(net, small.optimizer).param_groups if g["orthogonal"])
    groups = [group for group in whitened_in(net).features if not isinstance(group, nn.GELU)]
    kernels = [layer.weight for group in groups for layer in (group.first, group.second)]  # type: ignore[union-attr]
    assert [id(weight) for weight in inner["params"]] == [id(weight) for weight in kernels]


def test_a_picture_without_neighbours_is_refused():
    statistics = PixelStatistics(mean=(0.5,), std=(0.25,))
    with pytest.raises(InputError, match=r"model.kind whitened .* 1 x 8 .* dataset.size to 2 or more"):
        build(WhitenedConfig(), ImageSpec(height=1, width=8, channels=1), statistics, 2)
    build(WhitenedConfig(), ImageSpec(height=2, width=8, channels=1), statistics, 2)
