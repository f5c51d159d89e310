import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from models.config import Experiment
from models.training.config import (
    ConstantConfig,
    CosineConfig,
    CrossEntropyConfig,
    LinearConfig,
    OneCycleConfig,
    PlateauConfig,
    ScheduleConfig,
    StepConfig,
)
from models.training.schedule import factor, falls

FALLING = st.one_of(
    st.builds(CosineConfig, warmup=st.floats(0, 0.99), final=st.floats(0, 0.99)),
    st.builds(LinearConfig, warmup=st.floats(0, 0.99), final=st.floats(0, 0.99)),
    st.builds(OneCycleConfig, warmup=st.floats(0, 0.99), start=st.floats(0.01, 0.99), final=st.floats(0, 0.99)),
)
OTHERS = st.one_of(
    st.builds(ConstantConfig, warmup=st.floats(0, 0.99)),
    st.builds(PlateauConfig, warmup=st.floats(0, 0.99)),
    st.builds(StepConfig, warmup=st.floats(0, 0.99), gamma=st.floats(0.01, 0.99)),
)
ANY = st.one_of(FALLING, OTHERS)
TOTALS = st.integers(1, 60)


def course(total_steps: int, config: ScheduleConfig) -> list[float]:
    return [factor(step, total_steps=total_steps, config=config) for step in range(total_steps)]


def test_the_rate_rises_in_equal_parts_and_falls_to_the_final_share():
    rates = course(100, CosineConfig(warmup=0.1, final=0.01))
    rises = [after - before for before, after in pairwise(rates[:11])]
    assert rises == pytest.approx([1 / 11] * 10)
    assert rates[10] == 1.0
    assert rates[-1] == pytest.approx(0.01)
    assert all(after < before for before, after in pairwise(rates[10:]))


def test_half_of_the_cosine_is_half_way_down():
    assert course(101, CosineConfig(warmup=0, final=0.0))[50] == pytest.approx(0.5)


def test_a_line_falls_in_equal_parts():
    assert course(6, LinearConfig(warmup=0, final=0.5)) == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5])


def test_steps_fall_at_their_shares_of_what_comes_after_the_warm_up():
    rates = course(22, StepConfig(warmup=0.5, milestones=(0.2, 0.6), gamma=0.1))
    assert rates[11:] == pytest.approx([1.0] * 2 + [0.1] * 4 + [0.01] * 5)


def test_one_cycle_starts_at_its_share_and_turns_at_the_peak():
    rates = course(101, OneCycleConfig(warmup=0.4, start=0.1, final=0.0))
    assert rates[0] == pytest.approx(0.1)
    assert rates[20] == pytest.approx(0.55)  # half of the way up
    assert rates[40] == 1.0
    assert rates[70] == pytest.approx(0.5)
    assert rates[-1] == 0.0


def test_a_constant_rate_stays_after_its_warm_up():
    assert course(10, ConstantConfig(warmup=0.2))[2:] == [1.0] * 8


@given(TOTALS, ANY)
def test_every_step_learns_and_none_above_the_peak(total: int, config: ScheduleConfig):
    rates = course(total, config)
    assert max(rates) == 1.0
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[0] > 0


@given(TOTALS, FALLING)
def test_the_peak_is_reached_once_and_the_last_step_has_the_final_rate(total: int, config: ScheduleConfig):
    rates = course(total, config)
    top = rates.index(1.0)
    assert rates.count(1.0) == 1
    assert rates[-1] == (config.final if top < total - 1 else 1.0)
    assert all(after > before for before, after in pairwise(rates[: top + 1]))
    assert all(after < before for before, after in pairwise(rates[top:]))


@given(TOTALS, ANY)
def test_after_the_warm_up_the_rate_never_rises(total: int, config: ScheduleConfig):
    rates = course(total, config)
    assert all(after <= before for before, after in pairwise(rates[rates.index(1.0) :]))


def test_a_plateau_lowers_the_rate_whenever_patience_is_spent():
    figures = [(1.0,), (0.9,), (0.9,), (0.95,), (0.9,), (0.8,), (0.8,), (0.8,)]
    assert [falls(figures[:epochs], patience=2) for epochs in range(9)] == [0, 0, 0, 0, 1, 1, 1, 1, 2]


@pytest.mark.slow
@given(st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5]), max_size=30), st.integers(1, 5))
def test_a_plateau_is_that_of_torch(losses: list[float], patience: int):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, threshold=0, min_lr=0.01, eps=0
    )
    for loss in losses:
        theirs.step(loss)
    config = PlateauConfig(patience=patience, gamma=0.5, final=0.01, warmup=0)
    ours = factor(5, total_steps=10, config=config, figures=[(loss,) for loss in losses])
    assert ours == pytest.approx(optimizer.param_groups[0]["lr"])


def test_equal_accuracies_are_told_apart_by_the_loss_on_a_plateau_too():
    assert falls([(0.5, 1.0), (0.5, 0.9), (0.5, 0.8)], patience=1) == 0


def test_files_of_the_first_release_are_read():
    read = TypeAdapter(ScheduleConfig).validate_python
    assert read({"kind": "cosine", "warmup": 0.1, "final": 0.2}) == CosineConfig(warmup=0.1, final=0.2)
    assert read({"kind": "constant", "warmup": 0.1, "final": 0.01}) == ConstantConfig(warmup=0.1)
    card = json.loads((Path(__file__).parents[1] / "golden/bundle-v1/card.json").read_bytes())
    experiment = Experiment.model_validate(card["experiment"])
    assert (experiment.schedule, experiment.train.loss) == (CosineConfig(), CrossEntropyConfig())


def test_a_plateau_that_early_stopping_would_never_let_happen_is_refused():
    settings = {"schedule": {"kind": "plateau", "patience": 4}, "train": {"patience": 4}}
    with pytest.raises(ValidationError, match=r"schedule\.patience 4 can never .* train\.patience 4 ends"):
        Experiment.model_validate(settings)
    settings["train"]["patience"] = 5
    assert Experiment.model_validate(settings).schedule == PlateauConfig(patience=4)
