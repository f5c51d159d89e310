"""Each check by itself: value and limit -> passed or not, in words."""

import numpy as np
import pytest

from models.config import ReleaseConfig
from models.evaluation import pace
from models.evaluation.checks import beside, latency, size, slowdown
from models.evaluation.metrics import score
from models.evaluation.pairs import error_difference, recall_difference


def test_a_bundle_above_the_limit_is_refused_and_one_below_is_not():
    assert size(6_000_000, ReleaseConfig()).ok is None
    assert size(6_000_000, ReleaseConfig(size_mb=6)).ok is True
    check = size(6_100_000, ReleaseConfig(size_mb=6))
    assert (check.ok, check.value, check.limit) == (False, 6.1, 6)
    assert check.said == "the bundle has 6.10 MB; at most 6 MB allowed by release.size_mb"


def test_a_latency_that_could_not_be_measured_passes_no_limit():
    assert latency(None, ReleaseConfig(), where="over HTTP").ok is None
    assert latency(None, ReleaseConfig(latency_ms=20), where="over HTTP").ok is False
    assert latency(19.9, ReleaseConfig(latency_ms=20), where="over HTTP").ok is True
    check = latency(31.4, ReleaseConfig(latency_ms=20), where="over HTTP")
    assert check.ok is False
    assert "within 31.4 ms over HTTP; at most 20 ms allowed by release.latency_ms" in check.said


def test_a_slower_model_is_refused_unless_nobody_would_notice():
    assert slowdown(0.019, 0.010, ReleaseConfig()).ok is True
    check = slowdown(0.024, 0.010, ReleaseConfig())
    assert (check.ok, check.limit) == (False, 2.0)
    assert check.said == "24 ms a picture, 2.4 times the champion's 10 ms; at most 2 times allowed by release.slowdown"
    fast = slowdown(0.004, 0.0005, ReleaseConfig())
    assert fast.ok is True
    assert "up to 5 ms are free" in fast.said
    assert slowdown(0.4, 0.01, ReleaseConfig(slowdown=None)).ok is None


def test_models_are_timed_in_turns_on_the_same_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "ROUNDS", 5)
    heard: list[tuple[str, bytes]] = []
    seconds = pace.in_turns(
        [lambda f: heard.append(("new", f)), lambda f: heard.append(("old", f))], [b"1", b"2", b"3"]
    )
    assert seconds.shape == (5, 2)
    assert (seconds >= 0).all()
    measured = heard[2 * pace.WARM :]
    assert measured[:4] == [("new", b"1"), ("old", b"1"), ("new", b"2"), ("old", b"2")]


def answers(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models' (N, 4) probabilities, the first of them better; labels (N,)."""
    rng = np.random.default_rng(0)
    labels = rng.choice(4, size=n, p=[0.6, 0.2, 0.15, 0.05])
    given = []
    for sharpness in (3.0, 1.5):
        scores = np.exp(rng.normal(size=(n, 4)) + sharpness * np.eye(4)[labels])
        given.append(scores / scores.sum(axis=1, keepdims=True))
    return given[0], given[1], labels


def test_the_differences_that_are_resampled_are_those_of_the_metrics():
    new, old, labels = answers()
    ours, theirs = (score(some, labels, tuple("abcd")) for some in (new, old))
    once = np.ones(len(labels), dtype=np.int64)
    right = [some.argmax(axis=1) == labels for some in (new, old)]
    assert recall_difference(*right, labels)(once) == pytest.approx(ours.macro_recall - theirs.macro_recall)
    assert error_difference(new, old, labels)(once) == pytest.approx(ours.ece - theirs.ece)


@pytest.mark.slow
def test_their_intervals_decide_nothing_and_are_the_same_for_the_same_data():
    new, old, labels = answers()
    recall, error = beside(new, old, labels, config=ReleaseConfig(), seed=7)
    assert recall.ok is None is error.ok
    assert "(95 % interval +" in recall.said  # the better model's is above 0 throughout
    assert (recall, error) == beside(new, old, labels, config=ReleaseConfig(), seed=7)
    assert (
        beside(new, new, labels, config=ReleaseConfig(), seed=7)[0].said == "+0.0 points (95 % interval +0.0 to +0.0)"
    )
