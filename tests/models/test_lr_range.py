"""The range test: on functions whose best rate is known, and on the digits."""

import math
from itertools import count

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from data.errors import InputError
from data.spec import ImageSpec
from models.config import TrainConfig
from models.records import PixelStatistics
from models.training.config import AdamWConfig, MuonConfig, OptimizerConfig, SGDConfig
from models.training.lr_range import range_test, steepest
from models.training.trial import try_rates
from models.zoo.build import build
from models.zoo.config import CNNConfig


class Quadratic:
    """Plain descent on the mean of h w^2 / 2, whose best rate is 1 / h and which blows up beyond 2 / h."""

    def __init__(self, h: float, noise: float = 0.0) -> None:
        self.h, self.w, self.noise = h, np.ones(8), noise
        self.random = np.random.default_rng(0)

    def __call__(self, rate: float) -> float:
        loss = float(self.h * (self.w**2).mean() / 2 * np.exp(self.noise * self.random.normal()))
        self.w = self.w * (1 - rate * self.h)
        return loss


@pytest.mark.parametrize("h", [0.3, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_rate_of_a_quadratic_is_found_within_a_factor_of_twenty(h: float, noise: float):
    test = range_test(Quadratic(h, noise))
    assert 0.05 / h < test.chosen < 1.5 / h


def test_the_curve_is_told_as_far_as_it_went():
    test = range_test(Quadratic(1000.0))
    assert len(test.rates) == len(test.losses) == len(test.smooth) < 100
    assert all(math.isfinite(loss) for loss in test.losses)
    assert list(test.rates) == sorted(test.rates)
    assert test.chosen in test.rates


def test_a_fall_after_the_lowest_point_does_not_count():
    assert steepest(np.array([3.0, 2.9, 2.0, 1.0, 0.9, 9.0, 3.0])) in (2, 3)


def test_a_loss_that_blows_up_at_once_is_refused_with_a_remedy():
    numbers = count()
    with pytest.raises(InputError, match=r"optimizer\.lr auto found no rate.* after 3 steps.* give optimizer\.lr a"):
        range_test(lambda _: 1.0 if next(numbers) < 3 else math.nan)


class Digits:
    """In batches of 32."""

    def __init__(self) -> None:
        bunch = load_digits()
        self.pixels = torch.from_numpy((bunch.images * 15).astype(np.uint8)[..., None])
        self.labels = torch.from_numpy(bunch.target).long()
        self.steps_per_epoch = len(self.labels) // 32

    def epoch(self, epoch: int, *, start_step: int = 0):
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(len(self.labels)))
        for rows in order.split(32)[start_step : self.steps_per_epoch]:
            yield self.pixels[rows], self.labels[rows]


def digits_net() -> torch.nn.Module:
    torch.manual_seed(0)
    image = ImageSpec(height=8, width=8, channels=1)
    return build(CNNConfig(width=8), image, PixelStatistics(mean=(0.3,), std=(0.4,)), 10)


@pytest.mark.parametrize(
    "config", [SGDConfig(lr="auto"), AdamWConfig(lr="auto"), MuonConfig(lr="auto")], ids=lambda config: config.kind
)
def test_a_rate_for_the_digits_is_found_that_works(config: OptimizerConfig):
    """Within a factor of ten of the default, which was chosen by whole trainings."""
    default = type(config)().lr
    assert default != "auto"
    test = try_rates(digits_net(), Digits(), optimizer=config, config=TrainConfig())
    assert default / 10 < test.chosen < 10 * default


def test_trying_leaves_no_trace_and_is_decided_by_the_seed():
    net, batches = digits_net(), Digits()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        found.append(try_rates(net, batches, optimizer=AdamWConfig(lr="auto"), config=TrainConfig()))
    assert found[0] == found[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
