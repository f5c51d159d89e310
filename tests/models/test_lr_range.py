"""The range test: on functions whose best rate is known, and on the digits."""

import math
import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from data.errors import InputError
from data.spec import ImageSpec
from models.config import TrainConfig
from models.evaluation.inference import validate
from models.records import PixelStatistics
from models.training.config import (
    AdadeltaConfig,
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    CosineConfig,
    MuonConfig,
    OptimizerConfig,
    RMSpropConfig,
    SGDConfig,
)
from models.training.fit import Validation, fit
from models.training.lr_range import range_test
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
def test_a_rate_that_works_is_found_for_a_quadratic(h: float, noise: float):
    """Below the best, 1 / h, as a network's curvature grows along the way; by a factor of twenty at most."""
    test = range_test(Quadratic(h, noise))
    assert 0.05 / h < test.chosen < 1 / h


def test_the_rate_is_a_tenth_of_that_of_the_lowest_loss_and_the_curve_is_told_as_far_as_it_went():
    test = range_test(Quadratic(1000.0, noise=0.1))
    assert len(test.rates) == len(test.losses) == len(test.smooth) < 100
    assert all(math.isfinite(loss) for loss in test.losses)
    assert list(test.rates) == sorted(test.rates)
    assert test.chosen == test.rates[int(np.argmin(test.smooth))] / 10


@pytest.mark.parametrize("losses", [[1.0, 1.0, 1.0, math.nan], [math.nan], list(range(1, 200))], ids=str)
def test_a_loss_that_never_falls_is_refused_with_a_remedy(losses: list[float]):
    told = iter(losses)
    with pytest.raises(InputError, match=r"optimizer\.lr auto found no rate.*; give optimizer\.lr a number"):
        range_test(lambda _: next(told))


class Digits:
    """In batches of 32."""

    growing = 0.0

    def __init__(self) -> None:
        bunch = load_digits()
        self.pixels = torch.from_numpy((bunch.images * 15).astype(np.uint8)[..., None])
        self.labels = torch.from_numpy(bunch.target).long()
        self.steps_per_epoch = len(self.labels) // 32

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0):  # noqa: ARG002
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(len(self.labels)))
        for rows in order.split(32)[start_step : self.steps_per_epoch]:
            yield self.pixels[rows], self.labels[rows]


def digits_net() -> torch.nn.Module:
    torch.manual_seed(0)
    image = ImageSpec(height=8, width=8, channels=1)
    return build(CNNConfig(width=8), image, PixelStatistics(mean=(0.3,), std=(0.4,)), 10)


@pytest.mark.slow
def test_trying_finds_a_rate_for_the_digits_leaves_no_trace_and_is_decided_by_the_seed():
    """Near the default."""
    net, batches = digits_net(), Digits()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        found.append(try_rates(net, batches, optimizer=SGDConfig(lr="auto"), config=TrainConfig()))
    assert found[0] == found[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert 0.1 / 5 < found[0].chosen < 0.1 * 5


class Slow(Digits):
    """A step takes about as long everywhere."""

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0):
        for batch in super().epoch(epoch, start_step=start_step, done=done):
            time.sleep(0.01)
            yield batch


@pytest.mark.slow
def test_the_range_test_is_part_of_the_minutes():
    """It takes longer than the half second that there is, in which some thirty steps could be taken."""
    began, heard = time.monotonic(), []
    result = fit(
        digits_net(),
        Slow(),
        lambda _: Validation(1.0, 0.5),
        optimizer=SGDConfig(lr="auto"),
        schedule=CosineConfig(),
        config=TrainConfig(max_minutes=0.5 / 60),
        on_rates=lambda _: heard.append(time.monotonic() - began),
    )
    assert heard[0] > 0.5
    assert [record.step for record in result.history] == [1]
    assert result.summary.seconds > heard[0] - 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [SGDConfig(), AdamWConfig(), MuonConfig(), RMSpropConfig(), AdadeltaConfig(), AdamConfig(), AdagradConfig()],
    ids=lambda config: config.kind,
)
def test_the_rate_that_is_found_trains_about_as_well_as_the_default(config: OptimizerConfig):
    batches = Digits()
    held_out = (batches.pixels[-400:], batches.labels[-400:])
    batches.pixels, batches.labels, batches.steps_per_epoch = batches.pixels[:-400], batches.labels[:-400], 1397 // 32

    def accuracy(lr: float | str) -> float:
        result = fit(
            digits_net(),
            batches,
            lambda net: validate(net, [held_out], precision="float32"),
            optimizer=config.model_validate(config.model_dump() | {"lr": lr}),
            schedule=CosineConfig(),
            config=TrainConfig(epochs=6, patience=5),
        )
        return max(record.val_accuracy for record in result.history)

    assert accuracy("auto") > accuracy(config.lr) - 0.05
