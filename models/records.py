"""What a run writes down: frozen values shared by training, reports, export and flows. No torch here."""

from typing import Literal

from pydantic import JsonValue

from data.spec import Frozen, ImageSpec
from models.config import Experiment
from models.evaluation.metrics import Metrics
from models.verdict import Verdict as Verdict


class PixelStatistics(Frozen):
    """Mean and standard deviation per channel, on the 0..1 scale: of the training rows, or published with weights."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class EpochRecord(Frozen):
    """One line of history.jsonl."""

    epoch: int  # from 0
    step: int  # optimiser steps done so far
    lr: float
    train_loss: float
    val_loss: float
    val_accuracy: float
    grad_norm: float  # mean over the epoch, before clipping
    seconds: float  # this epoch, validation included
    images_per_s: float  # training only
    grad_norm_by_layer: dict[str, float] | None = None  # the same of each layer's weights, input first; not in old runs


class RateTest(Frozen):
    """lr_range.json: what a learning-rate range test saw, and what it chose."""

    chosen: float
    rates: tuple[float, ...]  # rising
    losses: tuple[float, ...]  # of the step taken at each rate
    smooth: tuple[float, ...]  # the losses, as the choice saw them


class FitSummary(Frozen):
    """What `fit` did."""

    epochs_planned: int
    epochs_run: int
    best_epoch: int
    stopped_early: bool
    seconds: float  # in the loop, resumed parts included
    images_per_s: float
    parameters: int
    device: str
    utilisation: float | None = None  # of the devices' dense bfloat16 peak, in training; None where not known
    patience: int | None = None  # epochs, as last planned; not in old runs


class FoldResult(Frozen):
    fold: int
    accuracy: float
    n: int
    epochs_run: int
    seconds: float


class CVResult(Frozen):
    """Stratified k-fold cross-validation on the development rows."""

    folds: tuple[FoldResult, ...]
    mean: float
    std: float  # sample standard deviation over folds


class Calibration(Frozen):
    """One temperature, fitted on validation data: https://arxiv.org/abs/1706.04599."""

    temperature: float
    ece_before: float
    ece_after: float


class Parity(Frozen):
    """Exported graph against trained network, over the whole test split."""

    n: int
    largest_difference: float  # of any probability
    changed_answers: int


class TrainingFit(Frozen):
    """Training pictures as evaluation sees them, without augmentation or label smoothing, with the final weights."""

    n: int  # a sample
    accuracy: float
    loss: float  # calibrated like the validation loss, so that the two can be compared


class DeadUnits(Frozen):
    """The units (channels, features) behind one ReLU, and how many of them gave 0 on every picture looked at."""

    layer: str
    units: int
    dead: int


class Statistic(Frozen):
    """Something simple about pictures, the mean over those of each part, and the spread over all."""

    name: str
    train: float
    test: float
    spread: float  # standard deviation

    @property
    def difference(self) -> float:
        """In standard deviations, test minus train."""
        return (self.test - self.train) / self.spread if self.spread else 0.0


class Shift(Frozen):
    """A classifier two-sample test, https://arxiv.org/abs/1610.06545, on simple statistics of the pixels."""

    n: int  # pictures of each part
    separability: float  # of a training and a test picture, how often the test picture is told: the area under the ROC
    p_value: float  # one-sided, of separability 0.5
    statistics: tuple[Statistic, ...]  # the one that differs most first


class Spectrum(Frozen):
    """The ends of the Hessian of the training loss at the final weights, by Lanczos' method."""

    n: int  # training pictures
    parameters: int
    iterations: int
    slope: float  # norm of the gradient there
    largest: float
    largest_error: float  # norm of H v - value v for the unit vector v found: an eigenvalue is at most this far away
    smallest: float
    smallest_error: float
    values: tuple[float, ...]  # Ritz values, ascending
    weights: tuple[float, ...]  # share of the spectrum each stands for; they sum to 1


class Checks(Frozen):
    """What is measured for the diagnosis once training has ended."""

    training: TrainingFit
    dead: tuple[DeadUnits, ...] = ()  # input first; empty without ReLUs
    shift: Shift | None = None  # None: too few pictures to tell
    spectrum: Spectrum | None = None  # only if asked for
    spectrum_failed: str | None = None  # why not, if asked for


class Lineage(Frozen):
    run_id: str
    fingerprint: str  # of the data
    commit: str | None
    flow_run_url: str | None = None
    reason: str | None = None  # why it was asked for


class RunResult(Frozen):
    """run.json: written last; a run folder without it is unfinished."""

    run_id: str
    experiment: Experiment
    image: ImageSpec
    statistics: PixelStatistics
    classes: tuple[str, ...]
    fit: FitSummary
    validation: Metrics  # calibrated probabilities
    test: Metrics
    calibration: Calibration
    crossval: CVResult | None
    lineage: Lineage
    versions: dict[str, str]
    flops: int | None = None  # of one picture's way forward; None in runs from before it was counted
    checks: Checks | None = None  # not in old runs
    decided: dict[str, JsonValue] | None = None  # path of a setting left open -> the value it got; not in old runs


class ModelCard(Frozen):
    """card.json: all that serving needs to know of a model, and where it comes from."""

    format: Literal[1] = 1
    name: str
    version: str
    created: str  # ISO 8601, UTC
    classes: tuple[str, ...]
    image: ImageSpec
    statistics: PixelStatistics  # for the reader; the numbers that count are in the graph
    kind: str
    parameters: int
    flops: int | None = None  # of one picture's way forward; None in cards from before it was counted
    validation: Metrics
    test: Metrics
    crossval: CVResult | None
    calibration: Calibration
    parity: Parity
    lineage: Lineage
    experiment: dict[str, JsonValue]  # for the reader; not `Experiment`, so that old cards outlive its changes
    versions: dict[str, str]
