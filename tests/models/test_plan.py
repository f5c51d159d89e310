"""How many steps a run takes, and that one with `max_minutes` ends with them however the machine's speed changes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.config import TrainConfig
from models.training.checkpoint import Checkpoints
from models.training.config import CosineConfig, PlateauConfig, ScheduleConfig, SGDConfig
from models.training.early_stop import EarlyStop
from models.training.fit import FitResult, Validation, fit
from models.training.plan import RESERVE, Plan, Speed, affordable, make_plan, plan_of, revised
from models.training.pulse import Stopped, never
from models.training.schedule import factor, falls
from models.training.trial import TIMED_STEPS, WARM_UP_STEPS

RATE = SGDConfig(lr=1e-3)
TRIED = WARM_UP_STEPS + TIMED_STEPS  # steps that measure the speed
MINUTES = {"epochs": 10_000}  # that the minutes bound


def steady(step: int) -> float:  # noqa: ARG001
    """Seconds of each step."""
    return 1.0


class Clock:
    """Time that passes only by what a run does: so many seconds for each step, of its pictures, and each validation."""

    def __init__(self, step_s: Callable[[int], float], *, small: float = 1.0, validation_s: float = 1.0) -> None:
        self.now, self.steps, self.step_s, self.small, self.validation_s = 0.0, 0, step_s, small, validation_s

    def step(self, *, small: bool) -> None:
        self.now += self.step_s(self.steps) * (self.small if small else 1.0)
        self.steps += 1

    def validate(self, net: nn.Module) -> Validation:  # noqa: ARG002
        self.now += self.validation_s
        return Validation(loss=1 / self.now, accuracy=0.5)  # always better: never stopped early


class Clocked:
    """Batches of two pictures that take their time."""

    steps_per_epoch = 20

    def __init__(self, clock: Clock, *, growing: float = 0.0) -> None:
        self.clock, self.growing = clock, growing
        self.small: list[bool] = []  # of each epoch that was begun

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ARG002
        self.small.append(done < self.growing)
        for _ in range(start_step, self.steps_per_epoch):
            self.clock.step(small=done < self.growing)
            yield torch.zeros(2, 4), torch.tensor([0, 1])


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FitResult]:
    def run(
        clock: Clock, *, growing: float = 0.0, checkpoints: Checkpoints | None = None, stop=never, **settings
    ) -> FitResult:
        monkeypatch.setattr(time, "monotonic", lambda: clock.now)
        return fit(
            nn.Linear(4, 2),
            Clocked(clock, growing=growing),
            clock.validate,
            optimizer=RATE,
            schedule=CosineConfig(),
            config=TrainConfig(**MINUTES | settings),
            checkpoints=checkpoints,
            stop=stop,
        )

    return run


def test_small_sets_are_seen_more_often():
    def epochs(steps_per_epoch: int) -> int:
        return make_plan(TrainConfig(), steps_per_epoch=steps_per_epoch).epochs

    assert [epochs(steps) for steps in (10, 50, 100, 703)] == [120, 72, 36, 20]


def test_patience_is_a_third_of_the_epochs_but_at_least_three():
    assert make_plan(TrainConfig(epochs=30), steps_per_epoch=5).patience == 10
    assert make_plan(TrainConfig(epochs=4), steps_per_epoch=5).patience == 3
    assert make_plan(TrainConfig(epochs=30, patience=2), steps_per_epoch=5).patience == 2


def test_without_patience_no_epochs_however_many_end_a_run():
    for epochs in (1, 7, 300):
        plan = make_plan(TrainConfig(epochs=epochs, patience="never"), steps_per_epoch=5)
        stop = EarlyStop(patience=plan.patience)
        for _ in range(plan.epochs):
            assert not stop.spent
            stop = stop.seen(1.0)
        assert not stop.spent
    longer = revised(PLANNED, FOUR_MINUTES.model_copy(update={"patience": "never"}), **AT_A_QUARTER, took_s=30.0)
    assert longer.patience == longer.epochs == 30


@pytest.mark.parametrize("epochs", [6, 9, 30])
def test_patience_leaves_a_plateau_the_time_to_lower_the_rate(epochs: int):
    schedule, config = PlateauConfig(patience=3), TrainConfig(epochs=epochs)
    plan = make_plan(config, steps_per_epoch=5, schedule=schedule)
    figures = [(1.0,)] * plan.patience  # the first, and then one less than would end the run
    assert falls(figures, patience=schedule.patience) > 0


def test_minutes_are_filled_with_whole_epochs_and_a_cut_one():
    speed = Speed(step_s=1.0, validation_s=2.0)  # an epoch of 10 steps takes 12 s
    plan = make_plan(TrainConfig(epochs=30, max_minutes=61 / 60 / (1 - RESERVE)), steps_per_epoch=10, speed=speed)
    assert (plan.total_steps, plan.epochs) == (50, 5)
    assert affordable(67.0, steps_per_epoch=10, speed=speed) == 55
    cut = make_plan(TrainConfig(epochs=30, max_minutes=67 / 60 / (1 - RESERVE)), steps_per_epoch=10, speed=speed)
    assert [cut.steps_in(epoch) for epoch in range(cut.epochs)] == [10, 10, 10, 10, 10, 5]


def test_epochs_stay_the_upper_bound_of_minutes():
    speed = Speed(step_s=1e-3, validation_s=1e-3)
    assert make_plan(TrainConfig(epochs=3, max_minutes=10), steps_per_epoch=7, speed=speed).total_steps == 21


def test_there_is_always_a_step():
    speed = Speed(step_s=1e6, validation_s=1e6)
    assert make_plan(TrainConfig(max_minutes=0.1), steps_per_epoch=7, speed=speed).total_steps == 1


def test_measuring_the_speed_counts_as_part_of_the_minutes():
    speed = Speed(step_s=1.0, validation_s=2.0, took_s=24.0)  # two epochs' worth
    plan = make_plan(TrainConfig(epochs=30, max_minutes=61 / 60 / (1 - RESERVE)), steps_per_epoch=10, speed=speed)
    assert plan.epochs == 3
    late = Speed(step_s=1.0, validation_s=2.0, took_s=1e4)
    assert make_plan(TrainConfig(max_minutes=0.1), steps_per_epoch=10, speed=late).total_steps == 1


@pytest.mark.parametrize(
    "step_s",
    [
        steady,
        # The start of the machine's own work disturbs the measurement.
        pytest.param(lambda step: 1.5 if step < TRIED + 5 else 1.0, marks=pytest.mark.slow),
        lambda step: 1.0 if step < TRIED + 100 else 2.0,  # others come
        pytest.param(lambda step: 2.0 if step < TRIED + 100 else 1.0, marks=pytest.mark.slow),  # and go
        pytest.param(lambda step: 0.8 + 0.4 * (step % 2), marks=pytest.mark.slow),
    ],
    ids=["steady", "slow at first", "slower later", "faster later", "uneven"],
)
def test_minutes_are_used_up_and_not_exceeded(timed, step_s):
    clock = Clock(step_s)
    result = timed(clock, max_minutes=5)
    assert 0.95 * 5 * 60 <= clock.now <= 5 * 60
    assert result.summary.seconds == clock.now
    assert result.summary.epochs_planned == result.summary.epochs_run == len(result.history)


@pytest.mark.slow
@pytest.mark.parametrize("step_s", [steady, lambda step: 1.0 if step < 70 else 1.5], ids=["steady", "slower"])
def test_minutes_are_used_up_by_a_run_whose_pictures_grow(timed, step_s):
    clock = Clock(step_s, small=0.4)
    timed(clock, max_minutes=5, growing=0.5)
    assert 0.95 * 5 * 60 <= clock.now <= 5 * 60


@pytest.mark.parametrize(
    ("epochs", "small"), [(1, [False]), (2, [True, False]), (3, [True, True, False]), (4, [True, True, True, False])]
)
def test_the_last_epoch_sees_pictures_in_the_size_in_which_they_are_judged(epochs: int, small: list[bool]):
    batches = Clocked(Clock(steady), growing=0.6)
    fit(
        nn.Linear(4, 2),
        batches,
        batches.clock.validate,
        optimizer=RATE,
        schedule=CosineConfig(),
        config=TrainConfig(epochs=epochs),
    )
    assert batches.small == small


@pytest.mark.parametrize("seconds", [5.0, 21.0, 25.0, 35.0, 60.0, 200.0])
def test_what_is_planned_for_growing_pictures_takes_the_time_there_is(seconds: float):
    speed = Speed(step_s=1.0, validation_s=0.5, growing=0.6, small_step_s=0.4)
    steps = affordable(seconds, steps_per_epoch=20, speed=speed)
    took = speed.seconds(steps, total_steps=steps, steps_per_epoch=20, validations=-(-steps // 20))
    assert 0.75 * seconds <= took <= seconds
    assert speed.small_steps(20, steps_per_epoch=20) == 0
    assert speed.small_steps(40, steps_per_epoch=20) == 20
    assert speed.small_steps(100, steps_per_epoch=20) == 60


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [0.5, 1])
def test_minutes_for_an_epoch_or_two_hold_though_their_last_has_large_pictures(timed, minutes: float):
    clock = Clock(steady, small=0.4)
    timed(clock, max_minutes=minutes, growing=0.6)
    assert 0.75 * minutes * 60 <= clock.now <= minutes * 60


@pytest.mark.slow
def test_minutes_hold_within_a_single_epoch(timed, monkeypatch):
    monkeypatch.setattr(Clocked, "steps_per_epoch", 100_000)
    clock = Clock(lambda step: 1.0 if step < 2 * TRIED else 1.6)
    result = timed(clock, max_minutes=5)
    assert result.summary.epochs_run == 1
    assert 0.95 * 5 * 60 <= clock.now <= 5 * 60


def test_measuring_the_speed_counts_as_part_of_the_run(timed):
    clock = Clock(steady, validation_s=5.0)
    result = timed(clock, epochs=1, max_minutes=10)
    assert clock.now == result.summary.seconds == TRIED + 5 + 20 + 5


@pytest.mark.slow
def test_the_schedule_ends_with_the_minutes(timed):
    result = timed(Clock(lambda step: 1.0 if step < 40 else 1.3), max_minutes=4)
    total = result.history[-1].step
    assert result.history[-1].lr == RATE.lr * factor(total - 1, total_steps=total, config=CosineConfig())


@pytest.mark.slow
def test_a_revised_plan_is_what_a_killed_run_goes_on_with(timed, tmp_path: Path):
    def slower(step: int) -> float:
        return 1.0 if step < 40 else 2.0

    def killed(step: int) -> float:
        if step == 110:
            raise InterruptedError
        return slower(step)

    with pytest.raises(InterruptedError):
        timed(Clock(killed), max_minutes=5, patience="never", checkpoints=Checkpoints(tmp_path, every_steps=1))
    saved = Checkpoints(tmp_path).load()
    assert saved is not None
    plan = plan_of(saved["plan"])
    assert plan.revise_at is not None
    assert plan.revise_at > saved["epoch"] * 20 + saved["step"] > 0
    result = timed(
        Clock(lambda step: slower(110 + step)), max_minutes=5, patience="never", checkpoints=Checkpoints(tmp_path)
    )
    assert 0.95 * 5 * 60 <= result.summary.seconds <= 5 * 60


@pytest.mark.slow
def test_a_run_stopped_where_its_plan_is_due_revises_it_when_it_goes_on(timed, tmp_path: Path):
    def slower(step: int) -> float:
        return 1.0 if step < TRIED else 2.0

    first = make_plan(TrainConfig(**MINUTES, max_minutes=5), steps_per_epoch=20, speed=Speed(1.0, 1.0, TRIED + 1.0))
    due = count(1 - TRIED)  # asked at each of the tried steps too
    with pytest.raises(Stopped, match=f"after step {first.revise_at} "):
        timed(
            Clock(slower),
            max_minutes=5,
            patience="never",
            checkpoints=Checkpoints(tmp_path, every_steps=10_000),
            stop=lambda: next(due) == first.revise_at,
        )
    result = timed(Clock(lambda _: 2.0), max_minutes=5, patience="never", checkpoints=Checkpoints(tmp_path))
    assert 0.95 * 5 * 60 <= result.summary.seconds <= 5 * 60


PLANNED = Plan(steps_per_epoch=10, total_steps=200, patience=3, speed=Speed(step_s=1.0, validation_s=2.0), revise_at=50)
FOUR_MINUTES = TrainConfig(epochs=30, max_minutes=241 / 60 / (1 - RESERVE))
AT_A_QUARTER = {"steps_done": 50, "epochs_done": 5}


@pytest.mark.parametrize(
    ("slower", "total_steps"), [(1.0, 200), (2.0, 100), (0.5, 300)], ids=["as planned", "slower", "faster"]
)
def test_the_rest_is_expected_to_go_on_as_the_run_did(slower: float, total_steps: int):
    """An epoch was to take 12 s, and after 5 of them the rest of 241 s is given out anew."""
    plan = revised(PLANNED, FOUR_MINUTES, steps_done=50, epochs_done=5, took_s=60 * slower)
    assert plan.total_steps == total_steps
    assert plan.revise_at == 50 + (plan.total_steps - 50) // 4


def test_patience_is_revised_with_the_plan_unless_it_was_asked_for():
    def patience(config: TrainConfig, schedule: ScheduleConfig | None = None, *, slower: float = 0.5) -> int:
        return revised(PLANNED, config, **AT_A_QUARTER, took_s=60 * slower, schedule=schedule).patience

    assert [patience(FOUR_MINUTES, slower=slower) for slower in (0.5, 1.0, 2.0)] == [10, 6, 3]  # of 30, 20, 10 epochs
    assert patience(FOUR_MINUTES.model_copy(update={"patience": 4})) == 4
    assert patience(FOUR_MINUTES, PlateauConfig(patience=7)) == 14


class Unmoved(Clock):
    """A run that nothing improves."""

    def validate(self, net: nn.Module) -> Validation:
        super().validate(net)
        return Validation(loss=1.0, accuracy=0.5)


@pytest.mark.slow
def test_a_run_that_got_longer_is_stopped_by_the_patience_of_the_longer_one(timed, tmp_path: Path):
    """Its speed was measured while the machine was busy; a stop and a resumption in between change nothing."""
    first = make_plan(TrainConfig(**MINUTES, max_minutes=14), steps_per_epoch=20, speed=Speed(10.0, 1.0, 121.0))
    due = count(1)
    with pytest.raises(Stopped):
        timed(
            Unmoved(lambda step: 10.0 if step < TRIED else 1.0),
            max_minutes=14,
            checkpoints=Checkpoints(tmp_path, every_steps=10_000),
            stop=lambda: next(due) == (first.revise_at or 0) + 1,
        )
    result = timed(Unmoved(steady), max_minutes=14, checkpoints=Checkpoints(tmp_path))
    summary = result.summary
    assert summary.stopped_early
    assert summary.epochs_run == summary.patience + 1
    assert summary.patience == summary.epochs_planned // 3 > 3 * first.patience


@pytest.mark.slow
def test_an_epoch_under_way_is_judged_though_patience_is_spent_by_a_shorter_plan(timed, tmp_path: Path):
    """Stopped within that epoch, the run goes on with it, as it would have done without the stop."""
    first = make_plan(TrainConfig(**MINUTES, max_minutes=8), steps_per_epoch=20, speed=Speed(1.0, 1.0, 13.0))
    revised_at, stopped_at = first.revise_at or 0, count(1 - TRIED)
    slow = Unmoved(lambda step: 1.0 if step < TRIED else 2.0)
    assert revised_at % 20 not in (0, 19)
    with pytest.raises(Stopped, match=f"after step {revised_at + 1} "):
        timed(
            slow,
            max_minutes=8,
            checkpoints=Checkpoints(tmp_path, every_steps=10_000),
            stop=lambda: next(stopped_at) == revised_at + 1,
        )
    result = timed(Unmoved(lambda _: 2.0), max_minutes=8, checkpoints=Checkpoints(tmp_path))
    assert result.summary.patience < revised_at // 20
    assert result.summary.epochs_run == revised_at // 20 + 1


def test_a_plan_never_ends_before_what_is_done():
    late = revised(PLANNED, FOUR_MINUTES, steps_done=57, epochs_done=5, took_s=1e4)
    assert (late.total_steps, late.epochs, late.steps_in(5), late.revise_at) == (57, 6, 7, None)


def test_the_last_few_steps_are_not_revised():
    near = revised(replace(PLANNED, total_steps=60), FOUR_MINUTES, steps_done=55, epochs_done=5, took_s=235.0)
    assert near.revise_at is None


def test_a_plan_survives_being_packed():
    assert plan_of(asdict(PLANNED)) == PLANNED
    assert plan_of({"steps_per_epoch": 10, "total_steps": 20, "patience": 3}).speed is None  # of an older version
