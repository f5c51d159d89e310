"""When an answer counts as sure: the risk that was asked for is kept to, as often as was promised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binom

from models.evaluation.config import AnswerConfig
from models.evaluation.coverage import draw, of_run
from models.evaluation.selective import curve, fewest, ranks, selective, starts, sure, threshold

ASKED = {"risk": 0.05, "confidence": 0.95}
TIMES = 1_000
RARELY = 0.05 + 3 * (0.05 * 0.95 / TIMES) ** 0.5  # what was promised, and three standard deviations of the count


def answered(probability: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) of the answer, in 0.5..1, which is always class 0; (N,) bool -> (N, 2) probabilities, (N,) labels."""
    return np.stack([probability, 1 - probability], axis=1), wrong.astype(np.int64)


def simulated(random: np.random.Generator, n: int, error_of, levels: int | None = None):
    """n pictures of a model that is wrong about one of this probability as often as `error_of` says."""
    probability = random.beta(4, 1, n) / 2 + 0.5
    if levels:
        probability = np.ceil(probability * levels) / levels  # many ties, as saturated float32 gives
    return answered(probability, random.random(n) < error_of(probability))


def true_risk(limit: float, error_of, levels: int | None) -> float:
    """Of all answers above a limit, by the distribution that `simulated` draws from: P(p < t) = (2 t - 1) ** 4."""
    edges = np.linspace(0.5, 1, (levels or 20_000) // 2 + 1)
    kept = edges[1:] > limit
    mass = np.diff((2 * edges - 1) ** 4)[kept]
    return float(np.average(error_of(edges[1:][kept]), weights=mass))


@pytest.mark.parametrize(
    ("error_of", "levels", "n"),
    [
        pytest.param(lambda p: 1 - p, None, 600, id="calibrated"),
        pytest.param(lambda p: 1 - p, 40, 600, id="with ties", marks=pytest.mark.slow),
        pytest.param(lambda p: 0.5 * (1.05 - p), 8, 600, id="most answers equally sure", marks=pytest.mark.slow),
        pytest.param(lambda p: 0.3 * (1 - p) + 0.045, None, 400, id="hardly ever low enough", marks=pytest.mark.slow),
        pytest.param(
            lambda p: np.full_like(p, 0.052),
            None,
            400,
            id="just too often wrong, whatever it says",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda p: 0.9 * (p - 0.5) ** 4, None, 400, id="more often wrong where it is surer", marks=pytest.mark.slow
        ),
    ],
)
def test_sure_answers_are_wrong_more_often_than_asked_for_as_rarely_as_promised(error_of, levels, n):
    random = np.random.default_rng(0)
    risk_of: dict[float, float] = {}
    broken = 0
    for _ in range(TIMES):
        limit = threshold(*simulated(random, n, error_of, levels), **ASKED)
        if limit is not None:
            key = round(limit, 4)
            risk_of.setdefault(key, true_risk(limit, error_of, levels))
            broken += risk_of[key] > 0.05
    assert broken / TIMES <= RARELY


def test_a_calibrated_model_is_sure_of_most_of_what_it_could_be_sure_of():
    """The best threshold, known to who knows the model, is 0.885 and leaves two thirds of these answers."""
    random = np.random.default_rng(0)
    found = [threshold(*simulated(random, 2_000, lambda p: 1 - p), **ASKED) for _ in range(50)]
    covered = [0.0 if limit is None else 1 - (2 * limit - 1) ** 4 for limit in found]
    assert np.mean(covered) > 0.4


def test_a_few_wrong_labels_among_the_surest_do_not_end_the_search():
    """A run of tests that began with the strictest threshold alone would find nothing in half of these."""
    random = np.random.default_rng(0)
    found = [threshold(*simulated(random, 4_000, lambda p: 0.4 * (1 - p) + 0.012), **ASKED) for _ in range(50)]
    assert None not in found


def test_numbers_of_pictures_are_decided_by_how_many_there_are_alone():
    for n in (59, 60, 118, 270, 1_000, 50_000):
        found = ranks(n, **ASKED)
        assert found[-1] == n
        assert 1 <= len(found) <= 50
        assert found[0] >= fewest(0.05, 0.05 / starts(n, **ASKED))  # with none wrong, each could be proved
        assert (np.diff(found) > 0).all()
    assert starts(58, **ASKED) == 0  # 0.95 ^ 58 is above 0.05: nothing could be proved
    assert fewest(0.05, 0.05) == 59


def test_a_model_that_is_always_right_is_sure_of_everything():
    assert threshold(*answered(np.linspace(0.5, 1, 100), np.zeros(100)), **ASKED) == 0
    assert threshold(*answered(np.linspace(0.5, 1, 58), np.zeros(58)), **ASKED) is None  # too few to say


def test_a_model_that_is_always_wrong_is_sure_of_nothing():
    assert threshold(*answered(np.linspace(0.5, 1, 1_000), np.ones(1_000)), **ASKED) is None


@pytest.mark.parametrize("value", [0.7, 1.0])
def test_of_answers_that_are_all_equally_sure_it_is_all_or_none(value: float):
    wrong = np.zeros(1_000)
    wrong[:20] = 1
    assert threshold(*answered(np.full(1_000, value), wrong), **ASKED) == 0
    wrong[:80] = 1
    assert threshold(*answered(np.full(1_000, value), wrong), **ASKED) is None


def test_many_equal_answers_below_a_few_surer_ones_are_no_obstacle():
    assert threshold(*answered(np.array([0.99] * 30 + [0.9] * 370), np.zeros(400)), **ASKED) == 0


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (0.5, "50.0 %"),
        (0.9949, "99.5 %"),
        (0.9996, "99.96 %"),
        (float(np.float32(1) - np.float32(2**-20)), "99.99990 %"),
        (1.0, "100.0 %"),
    ],
)
def test_a_threshold_near_1_is_told_with_more_digits(limit: float, told: str):
    wrong = np.zeros(400)
    wrong[200:] = 1
    pictures = answered(np.array([np.nextafter(limit, 2)] * 200 + [limit] * 200), wrong)
    found = selective(pictures, pictures, config=AnswerConfig())
    assert found is not None
    assert (found.threshold, found.said.partition(" counts")[0]) == (limit, f"an answer of more than {told}")


def test_a_risk_that_no_number_of_pictures_proves_is_refused():
    with pytest.raises(ValidationError, match=r"answer.risk|risk"):
        AnswerConfig(risk=1e-17)
    few = answered(np.linspace(0.5, 1, 100), np.zeros(100))
    found = selective(few, few, config=AnswerConfig(risk=1e-4))
    assert found is not None
    assert "it takes 29,956 or more" in found.said


def test_classes_that_no_validation_picture_shows_stand_in_no_way():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 500)  # of five
    probabilities = np.eye(5)[labels] * 0.8 + 0.04
    assert threshold(probabilities, labels, **ASKED) == 0


@pytest.mark.slow
@given(
    st.integers(1, 400).flatmap(
        lambda n: st.tuples(
            st.lists(st.sampled_from([0.5, 0.6, 0.75, 0.9, 0.99, 1.0]) | st.floats(0.5, 1), min_size=n, max_size=n),
            st.integers(0, 2**32 - 1),
        )
    ),
    st.floats(0.01, 0.5),
    st.floats(0.55, 0.99),
)
def test_whatever_is_chosen_has_been_proved_on_the_pictures_it_was_chosen_on(drawn, risk, confidence):
    """Against a bound that is counted anew, picture by picture."""
    values, seed = drawn
    probability = np.array(values)
    probabilities, labels = answered(probability, np.random.default_rng(seed).random(len(values)) < 0.1)
    limit = threshold(probabilities, labels, risk=risk, confidence=confidence)
    if limit is None:
        return
    above = [wrong for value, wrong in zip(values, labels, strict=True) if value > limit]
    assert above
    shared = (1 - confidence) / starts(len(values), risk=risk, confidence=confidence)
    assert binom.cdf(sum(above), len(above), risk) <= shared
    assert limit == 0 or limit in values
    # A model that makes no errors at all is called sure of at least as much.
    faultless = threshold(probabilities, np.zeros_like(labels), risk=risk, confidence=confidence)
    assert faultless == 0


def test_what_it_costs_is_told_by_the_test_pictures():
    wrong = np.array([1] * 3 + [0] * 57 + [1] * 20 + [0] * 20)
    probabilities, labels = answered(np.array([0.9] * 60 + [0.6] * 40), wrong)
    found = sure(probabilities, labels, 0.6)
    assert (found.n, found.answered, found.wrong) == (100, 60, 3)
    assert found.coverage.low < 0.6 < found.coverage.high
    assert found.error is not None
    assert found.error.low < 0.05 < found.error.high
    assert sure(probabilities, labels, 0.9).error is None  # not above it


def test_it_is_said_in_words():
    val, test = (answered(np.linspace(0.5, 1, n), np.arange(n) < n // 10) for n in (1_000, 200))
    found = selective(val, test, config=AnswerConfig())
    assert found is not None
    assert found.threshold is not None
    assert found.said.startswith("an answer of more than 5")
    assert "counts as sure (at most 5 % wrong, with 95 % confidence by 1,000 validation pictures)" in found.said
    assert "of 200 test pictures" in found.said
    assert "of them answered wrong" in found.said


def test_where_nothing_can_be_proved_it_says_what_is_missing():
    few = answered(np.linspace(0.5, 1, 24), np.zeros(24))
    found = selective(few, few, config=AnswerConfig())
    assert found is not None
    assert (found.threshold, found.test) == (None, None)
    assert "no threshold gives at most 5 % wrong, with 95 % confidence by 24 validation pictures" in found.said
    assert "it takes 59 or more" in found.said
    wrong = answered(np.linspace(0.5, 1, 400), np.ones(400))
    assert "too many of the surest answers are wrong" in selective(wrong, few, config=AnswerConfig()).said


def test_it_can_be_left_out():
    few = answered(np.linspace(0.5, 1, 24), np.zeros(24))
    assert selective(few, few, config=AnswerConfig(risk=None)) is None


def test_the_curve_takes_answers_that_are_equally_sure_together():
    covered, wrong = curve(*answered(np.array([0.9, 0.8, 0.8, 0.7]), np.array([0, 1, 0, 1])))
    np.testing.assert_allclose(covered, [0.25, 0.75, 1])
    np.testing.assert_allclose(wrong, [0, 1 / 3, 0.5])


@pytest.mark.slow
def test_the_curve_is_drawn_with_the_risk_and_what_came_of_it():
    val, test = (answered(np.linspace(0.5, 1, n), np.arange(n) < n // 10) for n in (1_000, 200))
    found = selective(val, test, config=AnswerConfig())
    assert found is not None
    svg = draw(found, val=val, test=test).decode()
    assert "asked for: at most 5 %" in svg
    assert "called sure: " in svg
    arrays = {"val_logits": np.log(val[0] + 1e-9), "val_labels": val[1]}
    arrays |= {"test_probabilities": test[0], "test_labels": test[1]}
    assert of_run(found, arrays, temperature=1.0)
    assert of_run(None, arrays, temperature=1.0) is None
