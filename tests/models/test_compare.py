"""The gate: what counts as better, as not worse, and as neither; held to its stated error rates by simulation."""

import numpy as np
import pytest
from scipy.stats import binom

from models.config import ReleaseConfig
from models.evaluation.compare import align, compare
from models.evaluation.pairs import lowest_difference, paired, resampled_difference
from models.verdict import Check, Verdict, failed

CLASSES = tuple("abcde")
CONFIG = ReleaseConfig()


def answers(labels: np.ndarray, right: np.ndarray, *, num_classes: int = 5) -> np.ndarray:
    """(N, K) probabilities of a model that is right where `right` says, and one class off elsewhere."""
    return np.where(np.eye(num_classes)[np.where(right, labels, (labels + 1) % num_classes)] == 1, 0.8, 0.2 / 4)


def verdict(
    right_new: np.ndarray,
    right_old: np.ndarray | None,
    labels: np.ndarray | None = None,
    *,
    also: tuple[Check, ...] = (),
    **settings: float,
) -> Verdict:
    labels = np.arange(len(right_new)) % 5 if labels is None else labels
    return compare(
        challenger=answers(labels, right_new),
        champion=None if right_old is None else answers(labels, right_old),
        labels=labels,
        classes=CLASSES,
        config=ReleaseConfig(**settings),  # type: ignore[arg-type]
        champion_name=None if right_old is None else "flowers@7",
        also=also,
    )


def pattern(n: int, *, both: int, gained: int = 0, lost: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Who is right on n pictures: `both`, then only the challenger, then only the champion, then none."""
    i = np.arange(n)
    new = i < both + gained
    old = (i < both) | ((i >= both + gained) & (i < both + gained + lost))
    return new, old


def test_a_first_model_is_promoted_if_it_beats_the_majority_class():
    new, _ = pattern(100, both=90)
    result = verdict(new, None)
    assert (result.promoted, result.relation) == (True, "first")
    assert "90.0 %" in result.reason
    assert "20.0 %" in result.reason


def test_a_first_model_no_better_than_the_majority_class_is_refused():
    labels = np.array([0] * 70 + [1] * 30)
    result = verdict(labels == 0, None, labels)
    assert (result.promoted, result.relation) == (False, "first")
    assert "always answering a" in result.reason
    assert "train longer" in result.reason


def test_a_first_model_that_was_merely_lucky_is_refused():
    labels = np.array([0] * 5 + [1] * 3)
    assert not verdict(np.arange(8) < 6, None, labels).promoted  # 6 of 8 against 5 of 8


def test_a_significant_gain_is_better_and_promoted():
    result = verdict(*pattern(500, both=400, gained=40, lost=10))
    assert (result.promoted, result.relation, result.champion) == (True, "better", "flowers@7")
    assert result.difference == pytest.approx(0.06)
    assert result.difference_low is not None
    assert 0 < result.difference_low < 0.06
    assert "88.0 % against 82.0 % of 500 test pictures" in result.reason
    assert "40 gained, 10 lost" in result.reason


def test_an_equal_model_with_enough_pictures_is_not_worse_and_promoted():
    result = verdict(*pattern(2000, both=1800, gained=20, lost=20))
    assert (result.promoted, result.relation) == (True, "not worse")
    assert "Not worse than flowers@7" in result.reason


def test_an_equal_model_with_few_pictures_is_unproven_and_says_what_would_help():
    result = verdict(*pattern(60, both=50, gained=3, lost=3))
    assert (result.promoted, result.relation) == (False, "unproven")
    assert "bring more test pictures" in result.reason


def test_identical_answers_are_the_same_and_not_promoted():
    new, _ = pattern(10_000, both=9_000)
    result = verdict(new, new)
    assert (result.promoted, result.relation, result.difference) == (False, "same", 0.0)


def test_a_significant_loss_is_worse_and_refused():
    result = verdict(*pattern(500, both=400, gained=10, lost=40))
    assert (result.promoted, result.relation) == (False, "worse")


def test_a_significant_loss_within_the_margin_is_still_refused_so_that_losses_do_not_add_up():
    result = verdict(*pattern(20_000, both=18_000, gained=100, lost=200))
    assert result.difference_low is not None
    assert result.difference_low > -CONFIG.margin
    assert (result.promoted, result.relation) == (False, "worse")


def test_a_class_that_is_lost_blocks_a_model_that_is_better_overall():
    labels = np.repeat([0, 1, 2, 3, 4], [20, 200, 200, 200, 200])
    old = np.arange(820) % 5 != 0
    new = np.ones(820, dtype=bool)
    new[:12] = False
    result = verdict(new, old, labels)
    assert (result.promoted, result.relation) == (False, "better")
    assert "a from 16 to 8 of 20" in result.reason


def test_one_mistake_in_a_class_of_three_pictures_does_not_block():
    labels = np.repeat([0, 1, 2, 3, 4], [3, 500, 500, 500, 500])
    old = np.arange(2003) % 10 != 9
    new = old.copy()
    new[[0, 19]] = [False, True]
    assert old[:3].all()
    assert verdict(new, old, labels).promoted


def test_a_small_class_that_is_lost_entirely_blocks():
    labels = np.repeat([0, 1, 2, 3, 4], [3, 500, 500, 500, 500])
    old = np.arange(2003) % 10 != 9
    new = old.copy()
    new[:3], new[[9, 19, 29]] = False, True
    result = verdict(new, old, labels)
    assert (result.promoted, result.relation) == (False, "not worse")
    assert "a from 3 to 0 of 3" in result.reason


def told(verdict: Verdict) -> dict[str, bool | None]:
    return {check.name: check.ok for check in verdict.checks}


def test_every_check_is_listed_and_what_was_not_asked_for_decides_nothing():
    result = verdict(*pattern(2000, both=1800, gained=20, lost=20))
    asked = dict.fromkeys(("new answers", "significance", "loss", "bootstrap", "classes"), True)
    assert told(result) == asked | dict.fromkeys(("accuracy", "recall", "calibration"))
    assert result.promoted


@pytest.mark.parametrize(
    ("setting", "limit", "name", "words"),
    [
        ("min_accuracy", 0.92, "accuracy", "91.0 % right (89.7 % to 92.2 %); at least 92 % asked for"),
        ("min_recall", 0.91, "recall", "weakest class a with 90.5 % of 400; at least 91 % asked for"),
        ("max_ece", 0.1, "calibration", "off by 11.0 points; at most 10 points allowed"),
    ],
)
def test_a_better_model_that_misses_a_limit_is_refused_with_the_figure_and_the_setting(setting, limit, name, words):
    new, old = pattern(2000, both=1700, gained=120, lost=20)
    new[[0, 5]], new[[1996, 1997]] = False, True  # class a has two more mistakes than the others
    result = verdict(new, old, **{setting: limit})
    assert (result.promoted, result.relation, told(result)[name]) == (False, "better", False)
    assert words in result.reason
    assert f"release.{setting}" in result.reason
    assert verdict(new, old).promoted
    assert verdict(new, old, **{setting: 0.85 if "min" in setting else 0.2}).promoted


def test_a_first_model_has_to_keep_to_the_limits_too():
    new, _ = pattern(100, both=90)
    result = verdict(new, None, min_accuracy=0.95)
    assert (result.promoted, result.relation) == (False, "first")
    assert "Not released: 90.0 % of 100" in result.reason
    assert "at least 95 % asked for by release.min_accuracy" in result.reason


def test_the_sentence_tells_the_first_failure_and_names_the_others():
    big = Check(name="size", value=9.0, limit=5.0, ok=False, said="the bundle has 9.00 MB; 5 allowed")
    slow = Check(name="latency", value=90.0, limit=50.0, ok=False, said="90 ms; 50 allowed")
    result = verdict(*pattern(500, both=400, gained=40, lost=10), also=(big, slow))
    assert (result.promoted, result.relation, failed(result.checks)) == (False, "better", (big, slow))
    assert result.reason.endswith("but the bundle has 9.00 MB; 5 allowed; latency failed too.")
    worse = verdict(*pattern(500, both=400, gained=10, lost=40), also=(big,))
    assert worse.reason.endswith("McNemar p < 0.001); size failed too.")


@pytest.mark.parametrize(("gained", "lost", "n"), [(150, 100, 2000), (3, 9, 200), (0, 2, 300), (5, 0, 40)])
def test_the_bootstrap_that_is_worked_out_is_the_one_that_is_drawn(gained, lost, n):
    worked_out = resampled_difference(gained=gained, lost=lost, n=n, confidence=0.95)
    drawn = np.random.default_rng(0).multinomial(n, np.array([gained, lost, n - gained - lost]) / n, size=100_000)
    differences = (drawn[:, 0] - drawn[:, 1]) / n
    assert (differences < worked_out - 1e-9).mean() < 0.05 + 0.003
    assert (differences <= worked_out + 1e-9).mean() > 0.05 - 0.003


def test_nothing_that_differs_leaves_nothing_to_resample():
    assert resampled_difference(gained=0, lost=0, n=100, confidence=0.95) == 0


def test_a_class_without_test_pictures_is_no_obstacle():
    labels = np.arange(1000) % 4
    new, old = pattern(1000, both=900, gained=30, lost=5)
    assert verdict(new, old, labels).promoted


def test_the_lower_limit_agrees_with_its_closed_forms():
    z2 = 1.6448536269514722**2
    assert lowest_difference(gained=0, lost=0, n=100, confidence=0.95) == pytest.approx(-z2 / (100 + z2), abs=1e-6)
    n = 50
    assert lowest_difference(gained=n, lost=0, n=n, confidence=0.95) == pytest.approx((n - z2) / (n + z2), abs=1e-6)
    assert lowest_difference(gained=0, lost=n, n=n, confidence=0.95) == -1.0


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 1, 1), (1, 0, 1), (0, 0, 1), (3, 2, 5), (0, 99, 100)])
def test_the_lower_limit_lies_between_minus_one_and_the_estimate(gained, lost, n):
    assert -1 <= lowest_difference(gained=gained, lost=lost, n=n, confidence=0.95) <= (gained - lost) / n


def test_mcnemar_agrees_with_the_binomial_tail():
    pairs = paired(*pattern(100, both=80, gained=9, lost=2), confidence=0.95)
    assert pairs.p_value == pytest.approx(2 * binom.sf(8, 11, 0.5))


def simulated(rng: np.random.Generator, runs: int, n: int, *, gain: float, loss: float) -> list[Verdict]:
    """Each picture is right for both, only for the challenger, or only for the champion, with these probabilities."""
    u = rng.random((runs, n))
    new, old = u < 0.8 + gain, (u < 0.8) | ((u >= 0.8 + gain) & (u < 0.8 + gain + loss))
    return [verdict(a, b) for a, b in zip(new, old, strict=True)]


@pytest.mark.parametrize(("gain", "loss"), [(0.0, 0.02), (0.01, 0.03), (0.06, 0.08)])
def test_a_loss_of_the_whole_margin_passes_no_more_often_than_stated(gain, loss):
    """Also for a challenger that only loses, where the interval conditional on discordant pairs fails."""
    rng = np.random.default_rng(1)
    lost = rng.binomial(600, loss, size=1000)
    gained = rng.binomial(600 - lost, gain / (1 - loss))
    cache: dict[tuple[int, int], float] = {}
    for pair in set(zip(gained.tolist(), lost.tolist(), strict=True)):
        cache[pair] = lowest_difference(gained=pair[0], lost=pair[1], n=600, confidence=CONFIG.confidence)
    passed = sum(cache[g, lo] >= -CONFIG.margin for g, lo in zip(gained.tolist(), lost.tolist(), strict=True))
    assert passed <= 50 + 3 * 7


@pytest.mark.slow
def test_a_planted_loss_is_refused():
    verdicts = simulated(np.random.default_rng(2), 200, 600, gain=0.02, loss=0.10)
    assert sum(v.promoted for v in verdicts) <= 2  # power at least 99 %
    assert sum(v.relation == "worse" for v in verdicts) >= 190


@pytest.mark.slow
def test_an_equal_model_is_promoted_with_useful_power():
    verdicts = simulated(np.random.default_rng(3), 200, 2000, gain=0.02, loss=0.02)
    assert sum(v.promoted for v in verdicts) >= 190


def test_a_champion_that_does_not_know_a_new_class_can_still_be_compared():
    old = align(np.array([[0.6, 0.1, 0.3], [0.0, 1.0, 0.0]]), classes=("a", "gone", "c"), onto=("a", "b", "c"))
    np.testing.assert_allclose(old, [[0.6 / 0.9, 0, 0.3 / 0.9], [1 / 3, 1 / 3, 1 / 3]])


def test_two_models_with_different_classes_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="4 classes"):
        compare(
            challenger=np.full((2, 4), 0.25),
            champion=np.full((2, 3), 1 / 3),
            labels=np.array([0, 1]),
            classes=("a", "b", "c", "d"),
            config=CONFIG,
            champion_name="x@1",
        )
