"""The course of the learning rate: a function of the step and, on a plateau, of the epochs judged so far.

Nothing is remembered between steps, so a run that goes on from a checkpoint has the rates of one that never stopped.
"""

import math
from collections.abc import Sequence
from typing import assert_never

from models.training.config import (
    ConstantConfig,
    CosineConfig,
    LinearConfig,
    OneCycleConfig,
    PlateauConfig,
    ScheduleConfig,
    StepConfig,
)

Figures = tuple[float, ...]
"""What an epoch was judged by, as `EarlyStop` sees it: smaller is better, later ones only break ties."""


def factor(step: int, *, total_steps: int, config: ScheduleConfig, figures: Sequence[Figures] = ()) -> float:
    """Share of the peak learning rate at `step`, 0 <= step < total_steps; `figures` of the epochs that have ended.

    The warm-up never starts at 0 (a step that learns nothing) and never takes the whole run; the first step after it
    has the peak rate, the very last one the final.
    """
    warmup = min(round(config.warmup * total_steps), total_steps - 1)
    if step < warmup:
        return rise(step, warmup=warmup, config=config)
    done = (step - warmup) / max(1, total_steps - 1 - warmup)  # 0..1
    match config:
        case ConstantConfig():
            return 1.0
        case LinearConfig():
            return config.final + (1 - config.final) * (1 - done)
        case CosineConfig() | OneCycleConfig():
            return config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2
        case StepConfig():
            return config.gamma ** sum(done >= milestone for milestone in config.milestones)
        case PlateauConfig():
            return max(config.final, config.gamma ** falls(figures, patience=config.patience))
        case _:
            assert_never(config)


def rise(step: int, *, warmup: int, config: ScheduleConfig) -> float:
    """In equal parts to the peak at step `warmup`; a one-cycle begins at its own start and rises as it falls."""
    if isinstance(config, OneCycleConfig):
        return config.start + (1 - config.start) * (1 - math.cos(math.pi * step / warmup)) / 2
    return (step + 1) / (warmup + 1)


def falls(figures: Sequence[Figures], *, patience: int) -> int:
    """How often the rate has fallen: once for every `patience` epochs in a row that improve nothing."""
    best: Figures | None = None
    waited = count = 0
    for figure in figures:
        if best is None or figure < best:
            best, waited = figure, 0
            continue
        waited += 1
        if waited == patience:
            count, waited = count + 1, 0
    return count
