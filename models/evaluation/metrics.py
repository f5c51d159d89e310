"""Probabilities and labels -> figures with intervals. No torch here.

N pictures, K classes. scikit-learn and scipy are imported inside the functions: the service reads `Metrics`
from a model card and has no scikit-learn, and scipy.stats would cost its start half a second.
"""

from dataclasses import dataclass

import numpy as np

from data.spec import Frozen

NUM_BINS = 15
"""Bins of confidence, as in https://arxiv.org/abs/1706.04599."""


class Interval(Frozen):
    low: float
    high: float


class ClassMetrics(Frozen):
    """One class; a figure that would be 0 / 0 is 0, and `support` says so."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float


class Metrics(Frozen):
    """How well N labelled pictures were classified. Macro averages run over the classes that occur in the labels."""

    n: int
    accuracy: float
    interval: Interval  # Wilson, 95 %
    majority: float  # accuracy of always answering the most frequent class
    loss: float  # mean negative log likelihood, nats
    ece: float  # expected calibration error, 15 bins
    macro_precision: float
    macro_recall: float
    macro_f1: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]  # [true][predicted]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in `NUM_BINS` bins of equal width; NaN where a bin is empty."""

    count: np.ndarray  # (bins,) int64
    confidence: np.ndarray  # (bins,) mean probability of the answer
    accuracy: np.ndarray  # (bins,) share of right answers

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between the two, weighted by count."""
        gap = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float((gap * self.count).sum() / self.count.sum())


def score(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Metrics:
    """probabilities (N, K) float, rows sum to 1; labels (N,) int. Raises ValueError with one sentence otherwise."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    probabilities = checked(probabilities, labels, len(classes))
    n, every = len(labels), np.arange(len(classes))
    predicted = probabilities.argmax(axis=1)
    right = int((predicted == labels).sum())
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    occurs = support > 0
    return Metrics(
        n=n,
        accuracy=right / n,
        interval=wilson(right, n),
        majority=float(support.max() / n),
        loss=negative_log_likelihood(probabilities, labels),
        ece=reliability(probabilities, labels).error,
        macro_precision=float(precision[occurs].mean()),
        macro_recall=float(recall[occurs].mean()),
        macro_f1=float(f1[occurs].mean()),
        per_class=tuple(
            ClassMetrics(label=label, support=int(s), precision=float(p), recall=float(r), f1=float(f))
            for label, s, p, r, f in zip(classes, support, precision, recall, f1, strict=True)
        ),
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(labels, predicted, labels=every)),
    )


def wilson(right: int, n: int, *, confidence: float = 0.95) -> Interval:
    """The Wilson score interval of `right` out of `n`."""
    from scipy.stats import binomtest

    interval = binomtest(right, n).proportion_ci(confidence, method="wilson")
    return Interval(low=float(interval.low), high=float(interval.high))


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over (N, K) probabilities, nats. A probability that underflowed to 0 counts as 1e-12, so this is finite."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(chosen, 1e-12, 1.0)).mean())


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """Bins (0, 1/15], (1/15, 2/15], ... of the answer's probability; probabilities (N, K), labels (N,)."""
    answer = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    bins = bin_of(answer)
    count = np.bincount(bins, minlength=NUM_BINS)
    filled = np.where(count > 0, count, np.nan)  # an empty bin has no mean
    return Reliability(
        count=count,
        confidence=np.bincount(bins, weights=answer, minlength=NUM_BINS) / filled,
        accuracy=np.bincount(bins, weights=right, minlength=NUM_BINS) / filled,
    )


def bin_of(answer: np.ndarray) -> np.ndarray:
    """Probabilities (N,) of the answers -> (N,) int64, their bins of confidence."""
    bins: np.ndarray = np.clip(np.ceil(answer * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    return bins


def checked(probabilities: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The (N, K) probabilities as float64; raises ValueError with one sentence when the pair cannot be scored."""
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if labels.ndim != 1 or probabilities.shape != (len(labels), num_classes):
        raise ValueError(
            f"probabilities of shape {probabilities.shape} do not fit labels of shape {labels.shape} "
            f"and {num_classes} classes; expected (N, {num_classes}) and (N,)"
        )
    if not len(labels):
        raise ValueError("there are no pictures to score; give at least one")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels of type {labels.dtype} are no class indices; use integers")
    if labels.min() < 0 or labels.max() >= num_classes:
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise ValueError(f"label {wrong} is outside 0..{num_classes - 1}; labels and classes must belong together")
    if not np.isfinite(probabilities).all():
        rows = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise ValueError(f"{rows} of {len(labels)} rows of probabilities are not finite; the network has diverged")
    sums = probabilities.sum(axis=1)
    worst = int(np.abs(sums - 1).argmax())
    if abs(sums[worst] - 1) > 1e-3 or probabilities.min() < 0:
        raise ValueError(
            f"row {worst} of the probabilities sums to {sums[worst]:.4g} and the smallest entry is "
            f"{probabilities.min():.4g}; each row must be a distribution (apply softmax first)"
        )
    return probabilities
