"""Curves whose trouble is known, and the sentence each must get."""

import numpy as np
import pytest

from models.evaluation.diagnose import diagnose
from models.evaluation.metrics import Metrics, score
from models.records import Calibration, EpochRecord, FitSummary

CLASSES = ("daisy", "rose", "tulip")


def curves(train: list[float], val: list[float], accuracy: list[float] | None = None) -> list[EpochRecord]:
    accuracy = accuracy or [1 - loss / 3 for loss in val]
    return [
        EpochRecord(
            epoch=e,
            step=10 * e + 10,
            lr=1e-3,
            train_loss=t,
            val_loss=v,
            val_accuracy=a,
            grad_norm=1.0,
            seconds=1.0,
            images_per_s=100.0,
        )
        for e, (t, v, a) in enumerate(zip(train, val, accuracy, strict=True))
    ]


def summary(epochs: int, *, best: int, planned: int | None = None) -> FitSummary:
    return FitSummary(
        epochs_planned=planned or epochs,
        epochs_run=epochs,
        best_epoch=best,
        stopped_early=planned is not None,
        seconds=10.0,
        images_per_s=100.0,
        parameters=1000,
        device="cpu",
    )


def measured(share: float, *, n: int = 300, sure: float = 0.9) -> Metrics:
    labels = np.arange(n) % 3
    predicted = np.where(np.random.default_rng(0).random(n) < share, labels, (labels + 1) % 3)
    return score(np.where(np.eye(3)[predicted] == 1, sure, (1 - sure) / 2), labels, CLASSES)


def subjects(history: list[EpochRecord], **facts: object) -> list[str]:
    facts = {"validation": measured(0.9), "fit": summary(len(history), best=len(history) - 1), **facts}
    return [remark.subject for remark in diagnose(history, **facts)]  # type: ignore[arg-type]


FALLING = [1.0, 0.8, 0.65, 0.55, 0.5, 0.46, 0.43, 0.41, 0.4, 0.395]
SETTLED = [1.0, 0.7, 0.5, 0.42, 0.40, 0.39, 0.385, 0.384, 0.383, 0.383]


def test_healthy_curves_are_called_healthy():
    assert subjects(curves(FALLING, SETTLED)) == ["healthy"]


def test_a_model_at_the_majority_rate_is_not_learning():
    history = curves([1.1] * 10, [1.1] * 10, [0.33] * 10)
    remarks = diagnose(history, fit=summary(10, best=3), validation=measured(0.34))
    assert [r.subject for r in remarks] == ["not learning"]
    assert "learning rate" in remarks[0].text


def test_rising_validation_loss_under_falling_training_loss_is_overfitting():
    val = [1.0, 0.7, 0.5, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    remarks = diagnose(curves(FALLING, val), fit=summary(10, best=3), validation=measured(0.85))
    assert remarks[0].subject == "overfitting"
    assert remarks[0].level == "warn"
    assert "from 0.45 (epoch 4)" in remarks[0].text
    assert "weights of epoch 4 were kept" in remarks[0].text


def test_overfitting_that_costs_no_accuracy_is_only_a_note():
    val = [1.0, 0.7, 0.5, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    remarks = diagnose(curves(FALLING, val, [0.9] * 10), fit=summary(10, best=3), validation=measured(0.9))
    assert {"overfitting": "note"}.items() <= {r.subject: r.level for r in remarks}.items()


def test_a_loss_that_was_still_falling_at_the_end_asks_for_more_epochs():
    remarks = diagnose(
        curves(FALLING, [2.0 - 0.15 * e for e in range(10)]), fit=summary(10, best=9), validation=measured(0.8)
    )
    text = next(r.text for r in remarks if r.subject == "unfinished")
    assert "the last 3 of 10 epochs brought validation loss from 1.10 to 0.65" in text


def test_high_loss_on_both_sides_is_underfitting():
    history = curves([1.0, *[0.8] * 9], [1.0, *[0.78] * 9])
    assert "underfitting" in subjects(history, fit=summary(10, best=4), validation=measured(0.55, sure=0.5))


def test_a_jump_of_the_training_loss_is_unstable():
    train = FALLING.copy()
    train[6] = 2.0
    remarks = diagnose(curves(train, SETTLED), fit=summary(10, best=9), validation=measured(0.9))
    assert remarks[0].subject == "unstable"
    assert "in 1 of 10 epochs (first in epoch 7)" in remarks[0].text


def test_early_stopping_says_when_and_since_when():
    remarks = diagnose(curves(FALLING, SETTLED), fit=summary(10, best=5, planned=30), validation=measured(0.9))
    texts = {r.subject: r.text for r in remarks}
    assert "after 10 of 30 epochs" in texts["stopped"]
    assert "since epoch 6" in texts["stopped"]


@pytest.mark.parametrize(("temperature", "subject"), [(1.7, "overconfident"), (0.6, "underconfident")])
def test_calibration_says_which_way_the_probabilities_were_wrong(temperature, subject):
    calibration = Calibration(temperature=temperature, ece_before=0.09, ece_after=0.02)
    assert subject in subjects(curves(FALLING, SETTLED), calibration=calibration)


def test_good_probabilities_are_not_remarked_on():
    calibration = Calibration(temperature=1.1, ece_before=0.01, ece_after=0.01)
    assert subjects(curves(FALLING, SETTLED), calibration=calibration) == ["healthy"]


def test_a_test_accuracy_clearly_below_validation_is_a_warning():
    assert "optimistic validation" in subjects(curves(FALLING, SETTLED), test=measured(0.6))


def test_the_weakest_class_is_named_with_what_it_is_taken_for():
    labels = np.arange(300) % 3
    predicted = labels.copy()
    predicted[2:150:3] = 1  # half of the tulips are called rose
    test = score(np.where(np.eye(3)[predicted] == 1, 0.9, 0.05), labels, CLASSES)
    remarks = diagnose(curves(FALLING, SETTLED), fit=summary(10, best=9), validation=test, test=test)
    weak = next(r.text for r in remarks if r.subject == "weak class")
    assert "tulip, 50.0 % of 100" in weak
    assert "taken for rose (50)" in weak


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_run_of_hardly_any_epochs_is_no_error(epochs):
    assert subjects(curves(FALLING[:epochs], SETTLED[:epochs]), fit=summary(max(epochs, 1), best=max(epochs - 1, 0)))
