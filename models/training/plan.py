"""How many steps a run takes: decided before the first, and kept in its checkpoint.

A run that is to fit into minutes is planned by a speed measured in its first seconds, which is seldom the speed of all
of it: others use the machine too. So the plan is revised by what the run took so far, each time a quarter of what was
left is done. The schedule then spans the revised number of steps; its rates move by what the plan was wrong.
"""

from dataclasses import dataclass, replace
from typing import Any

from models.config import TrainConfig
from models.training.config import PlateauConfig, ScheduleConfig

RESERVE = 0.03  # share of the minutes kept for checkpoints, and for a machine that slows down at the end
REVISED = 4  # one part in so many of the steps left is done between two revisions
LEAST_LEFT = 8  # steps: too few to be worth another
LEAST_PATIENCE = 3  # epochs
STEPS = 3_600  # about, where no number of epochs is asked for
LEAST_EPOCHS, MOST_EPOCHS = 20, 120


@dataclass(frozen=True)
class Speed:
    """As measured on this machine with this network."""

    step_s: float
    validation_s: float
    took_s: float = 0.0  # what measuring and a range test took; it counts as part of the run
    growing: float = 0.0  # share of the run, at its beginning, in which pictures are smaller
    small_step_s: float = 0.0  # with those

    def small_steps(self, total_steps: int, *, steps_per_epoch: int) -> float:
        """Those with smaller pictures; the last epoch has none."""
        last = (total_steps - 1) // steps_per_epoch
        return min(self.growing * total_steps, last * steps_per_epoch)

    def seconds(self, steps: int, *, total_steps: int, steps_per_epoch: int, validations: int) -> float:
        """What the first `steps` of a run of `total_steps` take, and so many validations."""
        small = min(steps, self.small_steps(total_steps, steps_per_epoch=steps_per_epoch))
        return small * self.small_step_s + (steps - small) * self.step_s + validations * self.validation_s


@dataclass(frozen=True)
class Plan:
    """The schedule spans exactly `total_steps`; the last epoch may be cut short."""

    steps_per_epoch: int
    total_steps: int
    patience: int  # epochs
    speed: Speed | None = None  # by which it was fitted into minutes
    revise_at: int | None = None  # steps, of a run that has to fit into minutes

    @property
    def epochs(self) -> int:
        return -(-self.total_steps // self.steps_per_epoch)

    def steps_in(self, epoch: int) -> int:
        return min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)


def behind(epoch: int, epochs: int) -> float:
    """The share of a run of so many epochs that lies behind when this one begins. Of the last it is all: what only the
    beginning is to see, such as smaller pictures, would else be all that a run of one epoch ever sees."""
    return 1.0 if epoch + 1 >= epochs else epoch / epochs


def plan_of(packed: dict[str, Any]) -> Plan:
    """As `dataclasses.asdict` packed it."""
    speed = packed.get("speed")
    return Plan(**packed | {"speed": None if speed is None else Speed(**speed)})


def make_plan(
    config: TrainConfig, *, steps_per_epoch: int, schedule: ScheduleConfig | None = None, speed: Speed | None = None
) -> Plan:
    """`speed` is needed where the run is to fit into `max_minutes`; epochs stay the upper bound."""
    total_steps = most_steps(config, steps_per_epoch)
    revise_at = None
    if config.max_minutes is not None:
        if speed is None:
            raise ValueError("max_minutes needs a measured speed")
        total_steps = min(
            total_steps, affordable(seconds_in(config) - speed.took_s, steps_per_epoch=steps_per_epoch, speed=speed)
        )
        revise_at = next_revision(0, total_steps)
    epochs = -(-total_steps // steps_per_epoch)
    return Plan(
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        patience=patience_of(config, epochs, schedule),
        speed=speed,
        revise_at=revise_at,
    )


def revised(
    plan: Plan,
    config: TrainConfig,
    *,
    steps_done: int,
    epochs_done: int,
    took_s: float,
    schedule: ScheduleConfig | None = None,
) -> Plan:
    """The plan for what is left of the minutes, from what a run that stands at `steps_done` took in all.

    How much slower or faster the run was than `plan.speed` is expected of the rest too. It never ends before
    `steps_done`, and never after `config.epochs`. Its patience is that of a run of so many epochs.
    """
    speed = plan.speed
    if speed is None:
        raise ValueError("only a plan for max_minutes can be revised")
    expected_s = speed.seconds(
        steps_done, total_steps=plan.total_steps, steps_per_epoch=plan.steps_per_epoch, validations=epochs_done
    )
    slower = max(took_s - speed.took_s, 1e-9) / max(expected_s, 1e-9)
    left_s = (seconds_in(config) - took_s) / slower
    total_steps = min(
        affordable(expected_s + left_s, steps_per_epoch=plan.steps_per_epoch, speed=speed),
        most_steps(config, plan.steps_per_epoch),
    )
    total_steps = max(total_steps, steps_done)
    plan = replace(plan, total_steps=total_steps, revise_at=next_revision(steps_done, total_steps))
    return replace(plan, patience=patience_of(config, plan.epochs, schedule))


def next_revision(steps_done: int, total_steps: int) -> int | None:
    left = total_steps - steps_done
    return steps_done + left // REVISED if left >= LEAST_LEFT else None


def seconds_in(config: TrainConfig) -> float:
    """Of `max_minutes`, those that may be planned for."""
    return 60 * (config.max_minutes or 0.0) * (1 - RESERVE)


def most_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    return (config.epochs or default_epochs(steps_per_epoch)) * steps_per_epoch


def patience_of(config: TrainConfig, epochs: int, schedule: ScheduleConfig | None = None) -> int:
    """Epochs without improvement before a run of `epochs` is stopped: on a plateau the rate falls before that, and what
    the lower one brings is waited for. As many as all are never without one: the first improves on nothing."""
    if config.patience == "never":
        return epochs
    if config.patience is not None:
        return config.patience
    falling = 2 * schedule.patience if isinstance(schedule, PlateauConfig) else 0
    return max(LEAST_PATIENCE, epochs // 3, falling)


def default_epochs(steps_per_epoch: int) -> int:
    """Small sets are seen more often, within bounds."""
    return min(max(STEPS // steps_per_epoch, LEAST_EPOCHS), MOST_EPOCHS)


def affordable(seconds: float, *, steps_per_epoch: int, speed: Speed) -> int:
    """Steps that fit into the time, with a validation after every epoch and after the cut one; at least one."""

    def fitted(small: float) -> int:
        step_s = small * speed.small_step_s + (1 - small) * speed.step_s
        epoch_s = steps_per_epoch * step_s + speed.validation_s
        epochs = int(seconds / epoch_s)
        left_s = seconds - epochs * epoch_s - speed.validation_s
        return max(1, epochs * steps_per_epoch + max(0, int(left_s / step_s)))

    total_steps = fitted(speed.growing)
    return fitted(speed.small_steps(total_steps, steps_per_epoch=steps_per_epoch) / total_steps)
