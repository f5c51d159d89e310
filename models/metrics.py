"""Probabilities and labels -> figures with intervals. No torch here."""

import numpy as np

from data.spec import Frozen


class Interval(Frozen):
    low: float
    high: float


class ClassMetrics(Frozen):
    label: str
    support: int
    precision: float
    recall: float
    f1: float


class Metrics(Frozen):
    """How well N labelled pictures were classified."""

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


def score(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Metrics:
    """probabilities (N, K) float, rows sum to 1; labels (N,) int."""
    raise NotImplementedError
