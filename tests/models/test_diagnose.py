"""Curves whose trouble is known, and the sentence each must get."""

from math import log

import numpy as np
import pytest
import torch

from models.evaluation import diagnose as rules
from models.evaluation.diagnosis.remark import Evidence, Peer, Remark
from models.evaluation.metrics import Metrics, score
from models.records import (
    Calibration,
    Checks,
    DeadUnits,
    EpochRecord,
    FitSummary,
    Shift,
    Spectrum,
    Statistic,
    TrainingFit,
)
from models.training.config import BinaryConfig, CrossEntropyConfig, FocalConfig, LossConfig
from models.training.losses import loss_of

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


def diagnose(history: list[EpochRecord], **facts: object) -> tuple[Remark, ...]:
    facts = {"validation": measured(0.9), "fit": summary(len(history), best=len(history) - 1), **facts}
    return rules.diagnose(Evidence(history, **facts))  # type: ignore[arg-type]


def kinds(history: list[EpochRecord], **facts: object) -> list[str]:
    return [remark.kind for remark in diagnose(history, **facts)]


def levels(history: list[EpochRecord], **facts: object) -> dict[str, str]:
    return {remark.kind: remark.level for remark in diagnose(history, **facts)}


def checked(accuracy: float, loss: float, *, n: int = 1000, **more: object) -> Checks:
    return Checks(training=TrainingFit(n=n, accuracy=accuracy, loss=loss), **more)  # type: ignore[arg-type]


FALLING = [1.0, 0.8, 0.65, 0.55, 0.5, 0.46, 0.43, 0.41, 0.4, 0.395]
SETTLED = [1.0, 0.7, 0.5, 0.42, 0.40, 0.39, 0.385, 0.384, 0.383, 0.383]


def test_healthy_curves_are_called_healthy():
    assert levels(curves(FALLING, SETTLED)) == {"healthy": "fine", "settled": "fine"}


def test_a_model_at_the_majority_rate_is_not_learning():
    history = curves([1.1, 1.09] * 5, [1.1] * 10, [0.33] * 10)
    remarks = diagnose(history, fit=summary(10, best=3), validation=measured(0.34))
    assert [r.kind for r in remarks] == ["not learning"]
    assert remarks[0].remedy is not None
    assert "learning rate" in remarks[0].remedy


def test_rising_validation_loss_under_falling_training_loss_is_overfitting():
    val = [1.0, 0.7, 0.5, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    remarks = diagnose(curves(FALLING, val), fit=summary(10, best=3), validation=measured(0.85))
    assert remarks[0].kind == "overfitting"
    assert remarks[0].level == "warning"
    assert "from 0.45 (epoch 4)" in remarks[0].text
    assert "weights of epoch 4 were kept" in remarks[0].text


def test_overfitting_that_costs_no_accuracy_is_only_a_note():
    val = [1.0, 0.7, 0.5, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    remarks = diagnose(curves(FALLING, val, [0.9] * 10), fit=summary(10, best=3), validation=measured(0.9))
    assert {"overfitting": "note"}.items() <= {r.kind: r.level for r in remarks}.items()
    assert "healthy" not in [r.kind for r in remarks]


@pytest.mark.parametrize(
    ("train", "val"), [([], []), ([1.0], [1.0]), ([1.0, 1.05], [1.0, 0.9]), ([1.0, 0.9], [1.0, 1.05])]
)
def test_only_a_loss_that_fell_with_validation_behind_it_is_called_healthy(train: list[float], val: list[float]):
    fit = summary(max(len(train), 1), best=0)
    assert "healthy" not in kinds(curves(train, val, [0.9] * len(val)), fit=fit)


def test_a_loss_that_was_still_falling_at_the_end_asks_for_more_epochs():
    remarks = diagnose(
        curves(FALLING, [2.0 - 0.15 * e for e in range(10)]), fit=summary(10, best=9), validation=measured(0.8)
    )
    text = next(r.text for r in remarks if r.kind == "unfinished")
    assert "the last 3 of 10 epochs brought validation loss from 1.10 to 0.65" in text


def test_training_pictures_that_are_not_learnt_are_underfitting():
    history = curves([1.0, *[0.8] * 9], [1.0, *[0.78] * 9])
    remarks = diagnose(history, validation=measured(0.55, sure=0.5), checks=checked(0.56, 0.8))
    assert remarks[0].kind == "underfitting"
    assert remarks[0].level == "warning"
    assert "56.0 %" in remarks[0].text
    assert "0.80 where guessing gives 1.10" in remarks[0].text
    assert remarks[0].remedy is not None
    assert "wider" in remarks[0].remedy


@pytest.mark.parametrize("high", [0.9, 1.05])
def test_the_loops_loss_which_mixup_raises_is_no_sign_of_underfitting(high):
    history = curves([1.09, 1.0, *[high] * 8], [1.0, 0.6, *[0.3] * 8])
    assert "underfitting" not in kinds(history)  # a run of before training pictures were looked at again
    assert levels(history, checks=checked(0.97, 0.1)).keys() & {"underfitting", "rate too low"} == set()


def test_a_smaller_model_that_did_better_makes_it_optimisation_trouble():
    history = curves([1.0, *[0.8] * 9], [1.0, *[0.78] * 9])
    peers = (
        Peer("too large", "cnn", 5000, TrainingFit(n=1000, accuracy=0.99, loss=0.01)),
        Peer("hardly better", "cnn", 500, TrainingFit(n=1000, accuracy=0.56, loss=0.79)),
        Peer("small", "vit", 400, TrainingFit(n=1000, accuracy=0.8, loss=0.4)),
    )
    remarks = diagnose(history, validation=measured(0.55, sure=0.5), checks=checked(0.56, 0.8), peers=peers)
    assert remarks[0].kind == "optimisation trouble"
    assert "the smaller vit of run small reached 0.40" in remarks[0].text
    assert "400 weights instead of 1,000" in remarks[0].text
    assert "underfitting" not in [r.kind for r in remarks]


def test_a_gap_between_training_and_validation_pictures_is_overfitting():
    remarks = diagnose(curves(FALLING, SETTLED), validation=measured(0.7), checks=checked(1.0, 0.01))
    assert (remarks[0].kind, remarks[0].level) == ("overfitting", "warning")
    assert "100.0 % of the training pictures" in remarks[0].text
    assert (
        levels(curves(FALLING, SETTLED), validation=measured(0.95), checks=checked(1.0, 0.01))["overfitting"] == "note"
    )


def test_a_gap_that_chance_may_have_made_is_none():
    few = measured(0.8, n=15)
    assert "overfitting" not in kinds(curves(FALLING, SETTLED), validation=few, checks=checked(0.85, 0.1, n=100))


def test_by_heart_and_no_better_than_guessing_otherwise_is_overfitting_not_no_learning():
    found = levels(curves(FALLING, [1.1] * 10), validation=measured(0.33), checks=checked(1.0, 0.01))
    assert found["overfitting"] == "warning"
    assert "not learning" not in found


def test_a_jump_of_the_training_loss_means_a_rate_that_is_too_high():
    train = FALLING.copy()
    train[6] = 2.0
    remarks = diagnose(curves(train, SETTLED), fit=summary(10, best=9), validation=measured(0.9))
    assert remarks[0].kind == "rate too high"
    assert "in 1 of 10 epochs" in remarks[0].text


def test_a_training_loss_above_that_of_guessing_means_a_rate_that_is_too_high():
    remarks = diagnose(curves([5.0, 4.0, *[2.0] * 8], [1.1] * 10), validation=measured(0.34))
    text = next(r.text for r in remarks if r.kind == "rate too high")
    assert "in 10 of 10 epochs the training loss was above that of guessing, 1.10 (highest 5 in epoch 1)" in text


def test_a_binary_loss_begins_above_that_of_guessing_and_is_no_sign_of_a_rate_that_is_too_high():
    train = [2.0, 1.8, 1.6, 1.45, 1.35, 1.28, 1.22, 1.18, 1.15, 1.14]  # three classes with even odds: 3 ln 2
    told = {"validation": measured(0.9), "checks": checked(0.95, 0.2)}
    assert "rate too high" in kinds(curves(train, SETTLED), **told)
    assert "rate too high" not in kinds(curves(train, SETTLED), **told, loss=BinaryConfig())
    diverged = diagnose(curves([2.0, 1.8, *[3.0] * 8], SETTLED), **told, loss=BinaryConfig())
    assert "above that of guessing, 2.08" in diverged[0].text


@pytest.mark.parametrize("loss", [CrossEntropyConfig(), FocalConfig(gamma=2), BinaryConfig()])
def test_the_loops_loss_of_guessing_is_that_of_equal_logits(loss: LossConfig):
    targets = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0]])  # mixed, and whole
    run = Evidence([], summary(1, best=0), measured(0.5), loss=loss)
    guessed = float(loss_of(torch.zeros(2, 3), targets, config=loss, smoothing=0.1))
    assert run.guessing_in_training == pytest.approx(guessed)


def test_a_straight_slow_fall_means_a_rate_that_is_too_low():
    slow = [1.1 - 0.005 * e for e in range(10)]
    remarks = diagnose(curves(slow, slow), validation=measured(0.5), checks=checked(0.5, 1.05))
    text = next(r.text for r in remarks if r.kind == "rate too low")
    assert "crept from 1.100 to 1.055" in text


@pytest.mark.parametrize("train", [[1.1, 0.9, *[0.8] * 8], [1.1, 1.0, 1.05, 0.99, 1.06, 0.98, 1.04, 1.0, 1.0, 1.0]])
def test_a_loss_that_bends_or_wavers_does_not(train):
    assert "rate too low" not in kinds(curves(train, train), validation=measured(0.5), checks=checked(0.5, 1.0))


@pytest.mark.parametrize(("gradient", "said"), [(1.0, True), (1e-6, False)])
def test_a_loss_that_does_not_move_means_so_too_if_there_is_a_gradient_to_follow(gradient, said):
    still = [EpochRecord(**(r.model_dump() | {"grad_norm": gradient})) for r in curves([1.1] * 10, [1.1] * 10)]
    assert ("rate too low" in kinds(still, validation=measured(0.34))) == said


def test_a_start_that_was_never_got_over_means_a_rate_that_is_too_high():
    thrown = curves([4.0, 2.0, *[1.1] * 8], [1.1] * 10)
    assert "rate too high" in kinds(thrown, validation=measured(0.34))
    assert "rate too high" not in kinds(curves([4.0, 2.0, *[0.3] * 8], [0.3] * 10))


def layered(*rows: tuple[float, ...], whole: list[float] | None = None) -> list[EpochRecord]:
    """An epoch for each row: the norms of its layers, input first."""
    history = curves(FALLING[: len(rows)], SETTLED[: len(rows)])
    told = [{"grad_norm_by_layer": {f"layer {i}": norm for i, norm in enumerate(row)}} for row in rows]
    wholes = [{"grad_norm": norm} for norm in (whole or [1.0] * len(rows))]
    return [EpochRecord(**(r.model_dump() | t | w)) for r, t, w in zip(history, told, wholes, strict=True)]


def test_gradients_that_fade_towards_the_input_vanish():
    remarks = diagnose(layered(*[(1e-7, 1e-5, 1e-3, 0.2)] * 6))
    assert remarks[0].kind == "vanishing gradients"
    assert remarks[0].picture == "gradients"
    assert "layer 0" in remarks[0].text
    assert "2,000,000 times less" in remarks[0].text


def test_gradients_that_are_alike_do_not():
    assert kinds(layered(*[(0.3, 0.1, 0.5, 0.2)] * 6))[0] == "healthy"


@pytest.mark.parametrize("norms", [[500.0] * 6, [1.0, 1.0, 80.0, 1.0, 1.0, 1.0]], ids=["always", "once"])
def test_huge_gradients_explode(norms):
    assert levels(layered(*[(1.0, 1.0, 1.0)] * 6, whole=norms))["exploding gradients"] == "warning"


@pytest.mark.parametrize(("dead", "level"), [(0, "fine"), (15, "note"), (16, "warning")])
def test_dead_units_are_counted(dead, level):
    checks = checked(
        0.95, 0.1, dead=(DeadUnits(layer="a", units=64, dead=0), DeadUnits(layer="b", units=32, dead=dead))
    )
    remark = next(r for r in diagnose(curves(FALLING, SETTLED), checks=checks) if r.kind == "dead units")
    assert remark.level == level
    assert (f"{dead} of 96 units" if dead else "none, each of the 96 units fired") in remark.text


def test_a_validation_set_too_small_says_what_the_accuracy_could_be():
    remarks = diagnose(curves(FALLING, SETTLED, [0.5, *[0.85] * 8, 0.9]), validation=measured(0.9, n=20))
    remark = next(r for r in remarks if r.kind == "small validation")
    assert remark.level == "warning"
    assert "with 20 pictures" in remark.text
    assert "ahead of the next best by 1 picture." in remark.text


def test_a_validation_set_large_enough_is_not_remarked_on():
    assert "small validation" not in kinds(curves(FALLING, SETTLED), validation=measured(0.9, n=1000))


@pytest.mark.parametrize(("told", "p", "level"), [(0.95, 1e-9, "warning"), (0.7, 1e-9, "note"), (0.9, 0.2, None)])
def test_other_test_pictures_are_a_shift_unless_chance_explains_it(told, p, level):
    differs = Statistic(name="brightness", train=0.61, test=0.42, spread=0.1)
    found = Shift(n=100, separability=told, p_value=p, statistics=(differs,))
    remarks = {r.kind: r for r in diagnose(curves(FALLING, SETTLED), checks=checked(0.95, 0.1, shift=found))}
    assert (remarks["shift"].level if "shift" in remarks else None) == level
    if level:
        assert "most of all brightness, 0.610 in training and 0.420 in test" in remarks["shift"].text


@pytest.mark.parametrize(
    ("smallest", "error", "kind"),
    [(-0.5, 0.01, "saddle"), (-0.5, 0.6, "minimum"), (-1e-4, 1e-6, "minimum"), (0.2, 0.01, "minimum")],
)
def test_a_value_below_zero_by_more_than_its_error_is_a_saddle(smallest, error, kind):
    found = Spectrum(
        n=256,
        parameters=1000,
        iterations=20,
        slope=0.03,
        largest=12.0,
        largest_error=1e-3,
        smallest=smallest,
        smallest_error=error,
        values=(smallest, 12.0),
        weights=(0.5, 0.5),
    )
    remarks = diagnose(curves(FALLING, SETTLED), checks=checked(0.95, 0.1, spectrum=found))
    remark = next(r for r in remarks if r.picture == "spectrum")
    assert remark.kind == kind
    assert "20 Lanczos steps on 256 training pictures" in remark.text


def test_a_loss_that_no_longer_moves_is_settled():
    assert levels(curves([*FALLING, 0.39, 0.39], [*SETTLED, 0.383, 0.383]))["settled"] == "fine"


def test_every_sentence_has_a_heading_a_figure_and_one_full_stop():
    history = curves([5.0, 4.0, *[2.0] * 8], [1.1] * 10)
    for remark in diagnose(history, validation=measured(0.34, n=20), checks=checked(0.35, 1.2)):
        assert remark.text.endswith(".")
        assert remark.remedy is None or not remark.remedy.endswith(".")
        assert remark.kind == "healthy" or any(c.isdigit() for c in remark.text)


def test_guessing_has_the_loss_of_as_many_classes():
    assert Evidence([], summary(1, best=0), measured(0.5)).guessing == pytest.approx(log(3))


def test_early_stopping_says_when_and_since_when():
    remarks = diagnose(curves(FALLING, SETTLED), fit=summary(10, best=5, planned=30), validation=measured(0.9))
    texts = {r.kind: r.text for r in remarks}
    assert "after 10 of 30 epochs" in texts["stopped"]
    assert "since epoch 6" in texts["stopped"]


@pytest.mark.parametrize(("temperature", "subject"), [(1.7, "overconfident"), (0.6, "underconfident")])
def test_calibration_says_which_way_the_probabilities_were_wrong(temperature, subject):
    calibration = Calibration(temperature=temperature, ece_before=0.09, ece_after=0.02)
    assert subject in kinds(curves(FALLING, SETTLED), calibration=calibration)


def test_good_probabilities_are_not_remarked_on():
    calibration = Calibration(temperature=1.1, ece_before=0.01, ece_after=0.01)
    assert kinds(curves(FALLING, SETTLED), calibration=calibration)[0] == "healthy"
    assert "overconfident" not in kinds(curves(FALLING, SETTLED), calibration=calibration)


def test_a_test_accuracy_clearly_below_validation_is_a_warning():
    assert "optimistic validation" in kinds(curves(FALLING, SETTLED), test=measured(0.6))


def test_the_weakest_class_is_named_with_what_it_is_taken_for():
    labels = np.arange(300) % 3
    predicted = labels.copy()
    predicted[2:150:3] = 1  # half of the tulips are called rose
    test = score(np.where(np.eye(3)[predicted] == 1, 0.9, 0.05), labels, CLASSES)
    remarks = diagnose(curves(FALLING, SETTLED), fit=summary(10, best=9), validation=test, test=test)
    weak = next(r.text for r in remarks if r.kind == "weak class")
    assert "tulip, 50.0 % of 100" in weak
    assert "taken for rose (50)" in weak


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_run_of_hardly_any_epochs_is_no_error(epochs):
    found = kinds(curves(FALLING[:epochs], SETTLED[:epochs]), fit=summary(max(epochs, 1), best=max(epochs - 1, 0)))
    assert ("healthy" in found) == (epochs == 2)
