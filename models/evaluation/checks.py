"""What is looked at before a model goes into service: each a function of measured values -> `Check`. No torch here.

A limit that is None was not asked for: the value is told, and decides nothing. What failed names the setting that
would let it pass.
"""

import numpy as np

from models.cards import Selective
from models.evaluation.config import ReleaseConfig
from models.evaluation.metrics import Interval, reliability, wilson
from models.evaluation.pairs import Paired, error_difference, recall_difference, resampled
from models.evaluation.percent import percent
from models.verdict import Check, Relation

FREE_MS = 5.0  # of a slower model: HTTP itself takes as long, so nobody would notice


def comparison(pairs: Paired, *, changed: int, relation: Relation, config: ReleaseConfig) -> tuple[Check, ...]:
    """Challenger against champion, by accuracy. `changed`: pictures that the two answer differently."""
    alpha, allowed = 1 - config.confidence, f"{points(-config.margin)} are allowed"
    by_name = {"loss": pairs.difference_low, "bootstrap": pairs.resampled_low}
    how = {"loss": "", "bootstrap": " by resampling"}
    limits = tuple(
        Check(
            name=name,
            value=low,
            limit=-config.margin,
            ok=low >= -config.margin,
            said=f"{points(pairs.difference)}, at least {points(low)}{how[name]}; {allowed}",
        )
        for name, low in by_name.items()
    )
    told = f"{changed:,} of {pairs.n:,} pictures are answered otherwise"
    test = f"{pairs.gained} gained, {pairs.lost} lost; McNemar p {p(pairs.p_value)}"
    return (
        Check(name="new answers", value=changed, limit=1, ok=changed > 0, said=told),
        Check(name="significance", value=pairs.p_value, limit=alpha, ok=relation != "worse", said=test),
        *limits,
    )


def classes_kept(fallen: tuple[str, ...], config: ReleaseConfig) -> Check:
    """`fallen`: in words, the classes that were lost."""
    rule = f"by more than {100 * config.class_margin:.0f} points"
    more = f" and {len(fallen) - 3} more" if len(fallen) > 3 else ""
    said = f"a class fell {rule}: {', '.join(fallen[:3])}{more}" if fallen else f"no class fell {rule}"
    return Check(name="classes", value=len(fallen), limit=0, ok=not fallen, said=said)


def since(pairs: Paired, config: ReleaseConfig, *, name: str, decides: bool) -> Check:
    """Against an earlier champion, so that small losses do not add up. `decides`: not where the model is better than
    the one in service, which would otherwise stay though it is worse still."""
    low = min(pairs.difference_low, pairs.resampled_low)
    limit = -config.margin if decides else None
    said = (
        f"{points(pairs.difference)} against {name}, the last that was better than the one before it, at least "
        f"{points(low)}; {points(-config.margin)} are allowed in all"
    )
    return Check(name="since", value=low, limit=limit, ok=None if limit is None else low >= limit, said=said)


def not_since(name: str, why: str) -> Check:
    """It could not be compared with that one."""
    said = f"not compared with {name}, the last that was better than the one before it: {why}"
    return Check(name="since", value=None, limit=None, ok=None, said=said)


def floors(
    probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], config: ReleaseConfig
) -> tuple[Check, ...]:
    """What is asked of any model, whatever the champion does: accuracy, every class's recall, calibration. As measured:
    the limit is the figure that has to be seen, not one that has to be proved. (N, K) probabilities; labels (N,)."""
    right = probabilities.argmax(axis=1) == labels
    accuracy, interval = float(right.mean()), wilson(int(right.sum()), len(right))
    there, every = np.unique(labels, return_counts=True)
    recalls = np.bincount(labels, weights=right, minlength=len(classes))[there] / every
    weakest, error = int(recalls.argmin()), reliability(probabilities, labels).error
    name = classes[int(there[weakest])]
    told = {
        "accuracy": f"{percent(accuracy)} right ({percent(interval.low)} to {percent(interval.high)})",
        "recall": f"weakest class {name} with {percent(recalls[weakest])} of {every[weakest]:,}",
        "calibration": f"its probabilities are off by {100 * error:.1f} points",
    }
    return (
        _least("accuracy", accuracy, config.min_accuracy, told["accuracy"], setting="min_accuracy"),
        _least("recall", float(recalls[weakest]), config.min_recall, told["recall"], setting="min_recall"),
        _most("calibration", error, config.max_ece, told["calibration"], setting="max_ece", unit="points", scale=100),
    )


def sureness(chosen: Selective | None) -> tuple[Check, ...]:
    """How many answers are called sure, which decides nothing; empty where nobody asked."""
    if chosen is None:
        return ()
    value = None if chosen.test is None else chosen.test.answered / chosen.test.n
    return (Check(name="sure", value=value, limit=None, ok=None, said=chosen.said),)


def beside(
    new: np.ndarray, old: np.ndarray, labels: np.ndarray, *, config: ReleaseConfig, seed: int
) -> tuple[Check, ...]:
    """Differences of macro recall and calibration error with their intervals, which decide nothing: a class counts in
    `classes_kept`, calibration in `floors`. Both (N, K) probabilities of the same N pictures; labels (N,)."""
    right_new, right_old = new.argmax(axis=1) == labels, old.argmax(axis=1) == labels
    found = []
    for name, statistic in (
        ("macro recall", recall_difference(right_new, right_old, labels)),
        ("calibration difference", error_difference(new, old, labels)),
    ):
        value = statistic(np.ones(len(labels), dtype=np.int64))
        interval = resampled(statistic, len(labels), confidence=config.confidence, seed=seed)
        found.append(Check(name=name, value=value, limit=None, ok=None, said=_between(value, interval, config)))
    return tuple(found)


def latency(value_ms: float | None, config: ReleaseConfig, *, where: str) -> Check:
    """`value_ms`: within which 95 of 100 answers came; None where it could not be measured, which no limit passes."""
    limit = config.latency_ms
    if value_ms is None:
        return Check(name="latency", value=None, limit=limit, ok=None if limit is None else False, said="not measured")
    said = f"95 of 100 pictures are answered within {value_ms:.3g} ms {where}"
    return _most("latency", value_ms, limit, said, setting="latency_ms", unit="ms")


def slowdown(new_s: float, old_s: float, config: ReleaseConfig) -> Check:
    """Seconds for one picture, measured in turns on this machine."""
    ratio, limit = new_s / old_s, config.slowdown
    said = f"{1000 * new_s:.3g} ms a picture, {ratio:.2g} times the champion's {1000 * old_s:.3g} ms"
    if limit is not None and ratio > limit and 1000 * new_s <= FREE_MS:
        return Check(name="slowdown", value=ratio, limit=limit, ok=True, said=f"{said}; up to {FREE_MS:g} ms are free")
    return _most("slowdown", ratio, limit, said, setting="slowdown", unit="times")


def size(num_bytes: int, config: ReleaseConfig) -> Check:
    """Of the whole bundle, as `trainserve models list` shows it."""
    value = num_bytes / 1e6
    return _most("size", value, config.size_mb, f"the bundle has {value:.2f} MB", setting="size_mb", unit="MB")


def points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"


def _between(value: float, interval: Interval, config: ReleaseConfig) -> str:
    surety = f"{100 * config.confidence:g} % interval"
    return f"{points(value)} ({surety} {100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def _least(name: str, value: float, limit: float | None, said: str, *, setting: str) -> Check:
    if limit is None:
        return Check(name=name, value=value, limit=None, ok=None, said=said)
    asked = f"{said}; at least {100 * limit:g} % asked for by release.{setting}"
    return Check(name=name, value=value, limit=limit, ok=value >= limit, said=asked)


def _most(
    name: str, value: float, limit: float | None, said: str, *, setting: str, unit: str, scale: float = 1.0
) -> Check:
    if limit is None:
        return Check(name=name, value=value, limit=None, ok=None, said=said)
    asked = f"{said}; at most {scale * limit:g} {unit} allowed by release.{setting}"
    return Check(name=name, value=value, limit=limit, ok=value <= limit, said=asked)
