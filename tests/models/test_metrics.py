"""Figures with intervals: counted by hand, and refused where they would mean nothing."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

from models.evaluation.metrics import Metrics, reliability, score, wilson

CLASSES = ("cat", "dog")


def two_by_two() -> Metrics:
    """3 cats (2 called cat), 5 dogs (4 called dog)."""
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    answers = np.array([0, 0, 1, 1, 1, 1, 1, 0])
    return score(np.where(np.eye(2)[answers] == 1, 0.75, 0.25), labels, CLASSES)


def test_a_two_by_two_table_gives_the_figures_counted_by_hand():
    metrics = two_by_two()
    cat, dog = metrics.per_class
    assert metrics.confusion == ((2, 1), (1, 4))
    assert (metrics.n, metrics.accuracy, metrics.majority) == (8, 6 / 8, 5 / 8)
    assert (cat.support, dog.support) == (3, 5)
    assert (cat.precision, cat.recall, cat.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (dog.precision, dog.recall, dog.f1) == pytest.approx((4 / 5, 4 / 5, 4 / 5))
    assert metrics.macro_recall == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert metrics.loss == pytest.approx(-(6 * np.log(0.75) + 2 * np.log(0.25)) / 8)
    assert metrics.ece == pytest.approx(0.0)  # says 75 %, is right in 75 %


def test_the_wilson_interval_agrees_with_its_formula():
    z, n, p = 1.959963984540054, 40, 38 / 40
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    interval = wilson(38, 40)
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half))


def test_perfect_answers_still_have_an_interval_with_width():
    assert wilson(20, 20).low < 1.0
    assert wilson(20, 20).high == 1.0


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy():
    labels = np.zeros(10, dtype=np.int64)
    probabilities = np.tile([0.9, 0.1], (10, 1))
    probabilities[:4] = [0.1, 0.9]  # four confident mistakes
    assert reliability(probabilities, labels).error == pytest.approx(0.9 - 0.6)


def test_every_probability_falls_into_one_bin():
    edges = np.arange(1, 16) / 15
    rest = (1 - edges)[:, None] * np.array([[0.5, 0.5]])
    probabilities = np.concatenate([edges[:, None], rest], axis=1)
    counts = reliability(probabilities, np.zeros(15, dtype=np.int64)).count
    assert counts.sum() == 15
    assert counts[-1] == 1


def test_a_class_absent_from_the_labels_gives_no_warning_and_no_nan():
    classes = ("a", "b", "never", "only predicted")
    labels = np.array([0, 0, 1, 1])
    probabilities = np.eye(4)[[0, 3, 1, 1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = score(probabilities, labels, classes)
    text = json.dumps(metrics.model_dump())
    assert "NaN" not in text
    assert "Infinity" not in text
    assert [c.support for c in metrics.per_class] == [2, 2, 0, 0]
    assert metrics.macro_recall == pytest.approx(0.75)  # over the two classes that occur
    assert Metrics.model_validate_json(metrics.model_dump_json()) == metrics


def test_a_wrong_answer_given_with_certainty_has_a_finite_loss():
    assert np.isfinite(score(np.array([[0.0, 1.0]]), np.array([0]), CLASSES).loss)


def test_half_precision_probabilities_are_accepted():
    probabilities = np.array([[0.7, 0.3], [0.1, 0.9]], dtype=np.float16)
    assert score(probabilities, np.array([0, 1]), CLASSES).accuracy == 1.0


GOOD = np.array([[0.7, 0.3], [0.1, 0.9]])


@pytest.mark.parametrize(
    ("probabilities", "labels", "sentence"),
    [
        (GOOD[:1], np.array([0, 1]), "do not fit labels"),
        (GOOD[:, :1], np.array([0, 1]), "do not fit labels"),
        (GOOD[0], np.array([0]), "do not fit labels"),
        (np.empty((0, 2)), np.empty(0, dtype=np.int64), "no pictures to score"),
        (GOOD, np.array([0.0, 1.0]), "use integers"),
        (GOOD, np.array([0, 2]), "label 2 is outside 0..1"),
        (GOOD, np.array([-1, 0]), "label -1 is outside 0..1"),
        (np.array([[np.nan, 1], [0, 1]]), np.array([0, 1]), "1 of 2 rows of probabilities are not finite"),
        (np.array([[0.7, 0.3], [2.0, 5.0]]), np.array([0, 1]), "row 1 of the probabilities sums to 7"),
        (np.array([[1.5, -0.5], [0.0, 1.0]]), np.array([0, 1]), "smallest entry is -0.5"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_a_sentence(probabilities, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        score(probabilities, labels, CLASSES)


@pytest.mark.slow
def test_reading_metrics_needs_neither_scikit_learn_nor_scipy():
    code = (
        "import sys, models.evaluation.metrics, models.records; "
        "sys.exit('sklearn' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
