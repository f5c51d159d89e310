"""What a run writes down: frozen values shared by training, reports, export and flows. No torch here."""

from typing import Literal

from pydantic import JsonValue

from data.spec import Frozen, ImageSpec
from models.config import Experiment
from models.evaluation.metrics import Metrics


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


class Lineage(Frozen):
    run_id: str
    fingerprint: str  # of the data
    commit: str | None
    flow_run_url: str | None = None


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


class Verdict(Frozen):
    """Whether a challenger replaces the champion, and why."""

    promoted: bool
    relation: Literal["first", "better", "not worse", "same", "unproven", "worse"]
    reason: str  # one sentence with the figures
    n: int  # test pictures compared
    challenger_accuracy: float
    champion_accuracy: float | None = None
    difference: float | None = None  # challenger minus champion
    difference_low: float | None = None  # one-sided lower confidence limit
    p_value: float | None = None  # exact McNemar, two-sided
    champion: str | None = None  # name@version
