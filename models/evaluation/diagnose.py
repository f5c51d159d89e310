"""What the curves and figures of a run say, in sentences. No torch here.

Rules of thumb on the values a run records anyway; each is one function that sees or does not see something. Their
limits are stated beside them. Mixup, label smoothing and augmentation raise the training loss, so no rule asks how
high the training loss is, only where it goes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np

from models.evaluation.metrics import Metrics, wilson
from models.records import Calibration, EpochRecord, FitSummary


@dataclass(frozen=True)
class Remark:
    """One finding. `subject` is for programs, `text` for people."""

    subject: Literal[
        "not learning",
        "underfitting",
        "overfitting",
        "unfinished",
        "stopped",
        "unstable",
        "overconfident",
        "underconfident",
        "optimistic validation",
        "weak class",
        "healthy",
    ]
    level: Literal["good", "note", "warn"]
    text: str


def diagnose(
    history: Sequence[EpochRecord],
    *,
    fit: FitSummary,
    validation: Metrics,
    test: Metrics | None = None,
    calibration: Calibration | None = None,
) -> tuple[Remark, ...]:
    """The gravest first. Epochs are counted from 1 in the sentences. An empty history says nothing about curves."""
    if not _above_majority(validation):
        remarks = [*_not_learning(validation), *_unstable(history)]
    else:
        over = list(_overfitting(history, fit))
        remarks = [
            *over,
            *([] if over else _underfitting(history, fit, validation)),
            *_unfinished(history, fit),
            *_unstable(history),
            *_stopped(fit),
            *_confidence(calibration),
            *(_optimistic(validation, test) if test else ()),
            *_weak_class(test or validation),
        ]
    if all(remark.level != "warn" for remark in remarks):
        remarks.append(Remark("healthy", "good", "The curves look healthy: the loss falls and validation follows."))
    return tuple(sorted(remarks, key=lambda remark: ("warn", "good", "note").index(remark.level)))


def _above_majority(metrics: Metrics) -> bool:
    return metrics.interval.low > metrics.majority


def _not_learning(validation: Metrics) -> Iterator[Remark]:
    yield Remark(
        "not learning",
        "warn",
        f"Not learning: validation accuracy {_percent(validation.accuracy)} cannot be told from always giving the most "
        f"frequent class ({_percent(validation.majority)}); try another learning rate, and check that pictures and "
        "labels belong together.",
    )


def _overfitting(history: Sequence[EpochRecord], fit: FitSummary) -> Iterator[Remark]:
    """Validation loss has risen by a tenth since its lowest while training loss went on falling."""
    if len(history) < 5:
        return
    losses = np.array([record.val_loss for record in history])
    lowest, last = int(losses.argmin()), losses[-3:].mean()
    if last < 1.1 * losses[lowest] or history[-1].train_loss >= history[lowest].train_loss:
        return
    lost = history[fit.best_epoch].val_accuracy - np.mean([record.val_accuracy for record in history[-3:]])
    yield Remark(
        "overfitting",
        "warn" if lost > 0.01 else "note",
        f"Overfitting: validation loss rose from {losses[lowest]:.2f} (epoch {lowest + 1}) to {last:.2f} while "
        f"training loss kept falling, and validation accuracy {'fell with it' if lost > 0.01 else 'held'}; more "
        f"augmentation, more weight decay or more pictures would help. The weights of epoch {fit.best_epoch + 1} were "
        "kept.",
    )


def _unfinished(history: Sequence[EpochRecord], fit: FitSummary) -> Iterator[Remark]:
    """The best epoch is among the last tenth, and the last third still brought down the loss by 5 %."""
    n = len(history)
    if n < 3 or fit.stopped_early or fit.best_epoch < n - max(1, n // 10):
        return
    late = n // 3
    losses = [record.val_loss for record in history]
    before, after = min(losses[:-late]), min(losses[-late:])
    if after <= 0.95 * before:
        yield Remark(
            "unfinished",
            "note",
            f"Still improving when it ended: the last {late} of {n} epochs brought validation loss from {before:.2f} "
            f"to {after:.2f}; more epochs would probably help.",
        )


def _underfitting(history: Sequence[EpochRecord], fit: FitSummary, validation: Metrics) -> Iterator[Remark]:
    """Both losses lie close together and far above 0: more than half the loss of guessing, ln K."""
    if not history:
        return
    best = history[fit.best_epoch]
    guessing = log(len(validation.per_class))
    if validation.loss > guessing / 2 and best.val_loss <= 1.1 * best.train_loss:
        yield Remark(
            "underfitting",
            "warn",
            f"Underfitting: validation loss settled at {validation.loss:.2f} (guessing is {guessing:.2f}) and training "
            "loss is no lower; a wider or deeper model, a larger picture, less augmentation or more epochs would help.",
        )


def _unstable(history: Sequence[EpochRecord]) -> Iterator[Remark]:
    """An epoch whose training loss is half as high again as the lowest so far. The first two epochs are warm-up."""
    losses = np.array([record.train_loss for record in history[2:]])
    if len(losses) < 2:
        return
    lowest = np.minimum.accumulate(losses)[:-1]
    spikes = np.flatnonzero((losses[1:] > 1.5 * lowest) & (losses[1:] > lowest + 0.1)) + 4  # counted from 1
    if len(spikes):
        yield Remark(
            "unstable",
            "warn",
            f"Unstable: training loss jumped up in {len(spikes)} of {len(history)} epochs (first in epoch {spikes[0]}"
            "); lower the learning rate or clip the gradient harder.",
        )


def _stopped(fit: FitSummary) -> Iterator[Remark]:
    if fit.stopped_early:
        yield Remark(
            "stopped",
            "note",
            f"Stopped after {fit.epochs_run} of {fit.epochs_planned} epochs: nothing better since epoch "
            f"{fit.best_epoch + 1}, whose weights were kept.",
        )


def _confidence(calibration: Calibration | None) -> Iterator[Remark]:
    """Temperature above 1 cools a model that is too sure of itself."""
    if calibration is None or calibration.ece_before < 0.03:
        return
    over = calibration.temperature > 1
    repaired = calibration.ece_after < min(0.05, calibration.ece_before)
    yield Remark(
        "overconfident" if over else "underconfident",
        "note" if repaired else "warn",
        f"{'Over' if over else 'Under'}confident: probabilities were off by {100 * calibration.ece_before:.1f} points "
        f"on average; with temperature {calibration.temperature:.2f} it is {100 * calibration.ece_after:.1f}"
        f"{'.' if repaired else ', so read them with care.'}",
    )


def _optimistic(validation: Metrics, test: Metrics) -> Iterator[Remark]:
    if test.interval.high < validation.interval.low:
        yield Remark(
            "optimistic validation",
            "warn",
            f"Test accuracy {_percent(test.accuracy)} lies clearly below validation accuracy "
            f"{_percent(validation.accuracy)}: the two parts differ, or the choice was tuned on validation too often.",
        )


def _weak_class(metrics: Metrics) -> Iterator[Remark]:
    """The class with the lowest recall, if the upper end of its own interval lies below the accuracy of all."""
    counted = [(c.recall, index) for index, c in enumerate(metrics.per_class) if c.support]
    if len(counted) < 2:
        return
    recall, index = min(counted)
    weakest, row = metrics.per_class[index], list(metrics.confusion[index])
    if wilson(row[index], weakest.support).high >= metrics.accuracy:
        return
    row[index] = 0
    other = int(np.argmax(row))
    yield Remark(
        "weak class",
        "note",
        f"Weakest class: {weakest.label}, {_percent(recall)} of {weakest.support} found, most often taken for "
        f"{metrics.per_class[other].label} ({row[other]}).",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
