"""A finding about a run, and what findings are made from. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Literal, assert_never

from models.evaluation.metrics import Interval, Metrics, wilson
from models.records import Calibration, Checks, EpochRecord, FitSummary, TrainingFit
from models.training.config import BinaryConfig, CrossEntropyConfig, FocalConfig, LossConfig

Kind = Literal[
    "not learning",
    "underfitting",
    "optimisation trouble",
    "overfitting",
    "rate too high",
    "rate too low",
    "vanishing gradients",
    "exploding gradients",
    "dead units",
    "unfinished",
    "settled",
    "stopped",
    "small validation",
    "shift",
    "optimistic validation",
    "overconfident",
    "underconfident",
    "weak class",
    "minimum",
    "saddle",
    "curvature",
    "healthy",
]
Level = Literal["fine", "note", "warning"]
Shown = Literal["curves", "rate", "gradients", "dead units", "shift", "spectrum"]


@dataclass(frozen=True)
class Remark:
    """One finding. `kind` is for programs, `text` and `remedy` for people."""

    kind: Kind
    level: Level
    text: str  # one sentence with its figures: "Heading: what is the case."
    remedy: str | None = None  # what to try
    picture: Shown | None = None  # which one shows it


@dataclass(frozen=True)
class Peer:
    """Another finished run on the same pictures."""

    run_id: str
    kind: str  # of its model
    parameters: int
    training: TrainingFit


@dataclass(frozen=True)
class Evidence:
    """A finished run, as the rules see it. Without history, `checks` or `peers` they say less."""

    history: Sequence[EpochRecord]
    fit: FitSummary
    validation: Metrics
    test: Metrics | None = None
    calibration: Calibration | None = None
    checks: Checks | None = None
    peers: Sequence[Peer] = ()
    loss: LossConfig = field(default_factory=CrossEntropyConfig)  # that the loop made small

    @property
    def guessing(self) -> float:
        """Cross-entropy of giving every class the same probability, nats."""
        return log(self._num_classes)

    @property
    def guessing_in_training(self) -> float:
        """The loop's own loss where all logits are equal zeros; the same with label smoothing or mixup."""
        match self.loss:
            case CrossEntropyConfig():
                return self.guessing
            case FocalConfig(gamma=gamma):
                return self.guessing * float((1 - 1 / self._num_classes) ** gamma)
            case BinaryConfig():
                return self._num_classes * log(2)  # each class by itself, with even odds
            case _:
                assert_never(self.loss)

    @property
    def _num_classes(self) -> int:
        return max(2, len(self.validation.per_class))

    @property
    def trained(self) -> TrainingFit | None:
        return self.checks.training if self.checks else None

    @property
    def trained_interval(self) -> Interval | None:
        """Wilson, 95 %, of the accuracy on training pictures."""
        fit = self.trained
        return wilson(round(fit.accuracy * fit.n), fit.n) if fit else None


def small(value: float) -> str:
    """Three digits, whatever the size."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
