"""What a run writes down: frozen values shared by training, reports, export and flows. No torch here."""

from pydantic import JsonValue

from data.gate.records import Shift as Shift
from data.gate.records import Statistic as Statistic
from data.spec import Frozen, ImageSpec
from models.cards import Calibration as Calibration
from models.cards import CVResult as CVResult
from models.cards import FoldResult as FoldResult
from models.cards import Lineage as Lineage
from models.cards import ModelCard as ModelCard
from models.cards import Outliers as Outliers
from models.cards import Parity as Parity
from models.cards import PixelStatistics as PixelStatistics
from models.cards import Selective as Selective
from models.config import Experiment
from models.evaluation.metrics import Metrics
from models.verdict import Verdict as Verdict


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
    selective: Selective | None = None  # that `answer.risk` asked for; not in old runs
    outliers: Outliers | None = None  # not in old runs
    decided: dict[str, JsonValue] | None = None  # path of a setting left open -> the value it got; not in old runs
