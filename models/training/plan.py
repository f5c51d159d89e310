"""How many steps a run takes: decided once, before the first, and kept in its checkpoint."""

from dataclasses import dataclass

from models.config import TrainConfig
from models.training.config import PlateauConfig, ScheduleConfig

RESERVE = 0.05  # share of the minutes kept for start, checkpoints, and a machine that slows down
LEAST_PATIENCE = 3  # epochs
STEPS = 3_000  # about, where no number of epochs is asked for
LEAST_EPOCHS, MOST_EPOCHS = 20, 120


@dataclass(frozen=True)
class Speed:
    """As measured on this machine with this network."""

    step_s: float
    validation_s: float
    took_s: float = 0.0  # what measuring and a range test took; it counts as part of the run


@dataclass(frozen=True)
class Plan:
    """The schedule spans exactly `total_steps`; the last epoch may be cut short."""

    steps_per_epoch: int
    total_steps: int
    patience: int  # epochs

    @property
    def epochs(self) -> int:
        return -(-self.total_steps // self.steps_per_epoch)

    def steps_in(self, epoch: int) -> int:
        return min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)


def make_plan(
    config: TrainConfig, *, steps_per_epoch: int, schedule: ScheduleConfig | None = None, speed: Speed | None = None
) -> Plan:
    """`speed` is needed where the run is to fit into `max_minutes`; epochs stay the upper bound."""
    total_steps = (config.epochs or default_epochs(steps_per_epoch)) * steps_per_epoch
    if config.max_minutes is not None:
        if speed is None:
            raise ValueError("max_minutes needs a measured speed")
        seconds = 60 * config.max_minutes * (1 - RESERVE) - speed.took_s
        total_steps = min(total_steps, affordable(seconds, steps_per_epoch=steps_per_epoch, speed=speed))
    epochs = -(-total_steps // steps_per_epoch)
    patience = patience_of(config, epochs, schedule)
    return Plan(steps_per_epoch=steps_per_epoch, total_steps=total_steps, patience=patience)


def patience_of(config: TrainConfig, epochs: int, schedule: ScheduleConfig | None = None) -> int:
    """Epochs without improvement before a run of `epochs` is stopped: on a plateau the rate falls before that, and what
    the lower one brings is waited for."""
    if config.patience is not None:
        return config.patience
    falling = 2 * schedule.patience if isinstance(schedule, PlateauConfig) else 0
    return max(LEAST_PATIENCE, epochs // 3, falling)


def default_epochs(steps_per_epoch: int) -> int:
    """Small sets are seen more often, within bounds."""
    return min(max(STEPS // steps_per_epoch, LEAST_EPOCHS), MOST_EPOCHS)


def affordable(seconds: float, *, steps_per_epoch: int, speed: Speed) -> int:
    """Steps that fit into the time, with a validation after every epoch and after the cut one; at least one."""
    epoch_s = steps_per_epoch * speed.step_s + speed.validation_s
    epochs = int(seconds / epoch_s)
    left_s = seconds - epochs * epoch_s - speed.validation_s
    return max(1, epochs * steps_per_epoch + max(0, int(left_s / speed.step_s)))
