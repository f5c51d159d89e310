"""What the figures on validation and test pictures are worth, and whether the parts of the data fit together."""

from collections.abc import Iterator

import numpy as np

from models.evaluation.diagnosis.learned import learnt
from models.evaluation.diagnosis.remark import Evidence, Remark
from models.evaluation.metrics import wilson
from models.evaluation.percent import percent

WIDE_NOTED, WIDE_WARNED = 0.06, 0.10  # half the width of the interval of the validation accuracy
SHIFT_NOTED, SHIFT_WARNED = 0.65, 0.80  # how often a test picture is told from a training picture; 0.5 is chance
SHIFT_P = 1e-3
MISCALIBRATED, REPAIRED = 0.03, 0.05  # expected calibration error


def small_validation(run: Evidence) -> Iterator[Remark]:
    """The interval of the validation accuracy is wider than what decided which epoch was kept."""
    interval, n = run.validation.interval, run.validation.n
    half = (interval.high - interval.low) / 2
    best, others = run.fit.best_epoch, [r.val_accuracy for r in run.history if r.epoch != run.fit.best_epoch]
    if not learnt(run) or half < WIDE_NOTED or not others or best >= len(run.history):
        return
    ahead = run.history[best].val_accuracy - max(others)
    if ahead > half:
        return
    pictures = round(ahead * n)
    decided = f"by {pictures} picture{'s' if pictures > 1 else ''}" if pictures > 0 else "by no picture at all"
    yield Remark(
        "small validation",
        "warning" if half >= WIDE_WARNED else "note",
        f"Validation set too small to tell: with {n} pictures the accuracy of {percent(run.validation.accuracy)} could "
        f"as well be {percent(interval.low)} or {percent(interval.high)}, and the epoch that was kept was ahead of the "
        f"next best {decided}.",
        "more validation pictures (dataset.val_fraction), or cross-validation (crossval.folds 5)",
        "curves",
    )


def shift(run: Evidence) -> Iterator[Remark]:
    """Simple statistics of the pixels tell test pictures from training pictures."""
    found = run.checks.shift if run.checks else None
    if found is None or found.separability < SHIFT_NOTED or found.p_value > SHIFT_P:
        return
    worst = found.statistics[0]
    yield Remark(
        "shift",
        "warning" if found.separability >= SHIFT_WARNED else "note",
        "Training and test pictures differ in kind: of one training and one test picture, brightness, contrast, colour "
        f"and sharpness alone tell which is which in {percent(found.separability)} of the cases (50 % would be chance, "
        f"{found.n} pictures each), most of all {worst.name}, {worst.train:.3f} in training and {worst.test:.3f} "
        "in test.",
        "training pictures of the kind that will be asked about, augmentation that covers the difference, "
        "or a test part drawn from the same source",
        "shift",
    )


def optimistic(run: Evidence) -> Iterator[Remark]:
    test, validation = run.test, run.validation
    if test is not None and test.interval.high < validation.interval.low:
        yield Remark(
            "optimistic validation",
            "warning",
            f"Test accuracy clearly below validation: {percent(test.accuracy)} against {percent(validation.accuracy)}, "
            "so the two parts differ, or the choice was tuned on validation too often.",
            "compare the pictures of both parts, and choose by cross-validation",
            "curves",
        )


def confidence(run: Evidence) -> Iterator[Remark]:
    """Temperature above 1 cools a model that is too sure of itself."""
    calibration = run.calibration
    if calibration is None or calibration.ece_before < MISCALIBRATED:
        return
    over = calibration.temperature > 1
    repaired = calibration.ece_after < min(REPAIRED, calibration.ece_before)
    yield Remark(
        "overconfident" if over else "underconfident",
        "note" if repaired else "warning",
        f"{'Over' if over else 'Under'}confident: probabilities were off by {100 * calibration.ece_before:.1f} points "
        f"on average; with temperature {calibration.temperature:.2f} it is {100 * calibration.ece_after:.1f}"
        f"{'.' if repaired else ', so read them with care.'}",
        None if repaired else "more validation pictures, on which the temperature is fitted",
    )


def weak_class(run: Evidence) -> Iterator[Remark]:
    """The class with the lowest recall, if the upper end of its own interval lies below the accuracy of all."""
    metrics = run.test or run.validation
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
        f"Weakest class: {weakest.label}, {percent(recall)} of {weakest.support} found, most often taken for "
        f"{metrics.per_class[other].label} ({row[other]}).",
        "more pictures of both classes, and a look at their labels",
    )
