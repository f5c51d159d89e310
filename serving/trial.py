"""A challenger tried on real requests, and the rules by which the service itself ends the trial.

Counted are this worker's requests. The limits hold for the lower ends of Wilson's 95 % intervals (JASA 22, 1927), so
that a few unlucky answers end nothing. Times are compared between batches of about the same size: a model that is asked
rarely answers small batches, which take longer for a picture, and is no slower for that.
"""

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from serving import metrics
from serving.aliases import Trial
from serving.served import Served
from serving.settings import Settings

Z = 1.96
KEPT = 200  # times of batches of a size
FEW = 10  # of them say nothing yet
UNNOTICED_S = 0.001  # that a picture may take longer, however short the champion's time is


@dataclass
class Side:
    """What one of the two did."""

    answers: int = 0
    failures: int = 0
    times: dict[int, deque[float]] = field(default_factory=dict)
    """Seconds of the model for a picture, by the size of the batch: 1, 2 to 3, 4 to 7 and so on."""

    def note(self, batch: int, model_s: float) -> None:
        self.times.setdefault(batch.bit_length(), deque(maxlen=KEPT)).append(model_s / batch)


@dataclass(eq=False)
class Trying:
    """The challenger, opened, and what came of it so far. Any thread may note; a request chooses by `is_due`."""

    served: Served
    trial: Trial
    champion: Side = field(default_factory=Side)
    challenger: Side = field(default_factory=Side)
    compared: int = 0  # pictures that both answered
    differed: int = 0
    _owed: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def is_due(self) -> bool:
        """Whether the next request is one of its share: every tenth of 10 %, not one in ten by chance."""
        with self._lock:
            self._owed += self.trial.share
            due = self._owed >= 1 - 1e-9
            self._owed -= due
            return due

    def answered(self, side: Side, batch: int, model_s: float) -> None:
        """`model_s`: of the whole batch that the answer was part of."""
        with self._lock:
            side.answers += 1
            side.note(batch, model_s)
        if side is self.challenger:
            metrics.TRIED.labels(self.served.ref.name, self.served.ref.version, "answered").inc()

    def failed(self) -> None:
        with self._lock:
            self.challenger.failures += 1
        metrics.TRIED.labels(self.served.ref.name, self.served.ref.version, "failed").inc()

    def agreed(self, compared: int, differed: int) -> None:
        with self._lock:
            self.compared += compared
            self.differed += differed
        metrics.COMPARED.labels(self.served.ref.name, self.served.ref.version).inc(compared)
        metrics.DIFFERED.labels(self.served.ref.name, self.served.ref.version).inc(differed)

    def failing(self, settings: Settings) -> str | None:
        """The limit that the challenger has crossed, in one sentence."""
        with self._lock:
            tried = self.challenger.answers + self.challenger.failures
            if tried < settings.trial_answers:
                return None
            if at_least(self.challenger.failures, tried) > settings.trial_errors:
                said = f"failed to answer {self.challenger.failures} of {tried} requests"
                return _beyond(settings.trial_errors, said)
            if at_least(self.differed, self.compared) > settings.trial_disagreement:
                said = f"disagreed about {self.differed} of {self.compared} pictures"
                return _beyond(settings.trial_disagreement, said)
            ours, theirs = typical(self.challenger, self.champion)
            if ours > max(settings.trial_slowdown * theirs, theirs + UNNOTICED_S):
                return (
                    f"it takes {1000 * ours:.1f} ms a picture where the champion takes {1000 * theirs:.1f}, "
                    f"more than {settings.trial_slowdown:g} times as long"
                )
            return None

    def told(self) -> dict[str, object]:
        """For /model."""
        with self._lock:
            ours, theirs = typical(self.challenger, self.champion)
            return {
                "model": self.served.name,
                "mode": "shadow" if self.trial.shadow else "canary",
                "share": self.trial.share,
                "answers": self.challenger.answers,
                "failures": self.challenger.failures,
                "compared": self.compared,
                "differed": self.differed,
                "model_ms": round(1000 * ours, 3),
                "champion_ms": round(1000 * theirs, 3),
            }


def typical(one: Side, other: Side) -> tuple[float, float]:
    """Seconds of each for a picture: the medians of the batch sizes that both have answered often enough, averaged by
    how often. 0 and 0 where there are none."""
    sizes = [size for size, times in one.times.items() if min(len(times), len(other.times.get(size, ()))) >= FEW]
    weights = [min(len(one.times[size]), len(other.times[size])) for size in sizes]
    if not sizes:
        return 0.0, 0.0

    def of(side: Side) -> float:
        medians = [median(side.times[size]) for size in sizes]
        return sum(weight * value for weight, value in zip(weights, medians, strict=True)) / sum(weights)

    return of(one), of(other)


def at_least(times: int, of: int) -> float:
    """The lower end of the interval of a share; 0 of nothing."""
    if of == 0:
        return 0.0
    share = times / of
    middle = share + Z * Z / (2 * of)
    half = Z * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of))
    return max(0.0, (middle - half) / (1 + Z * Z / of))


def _beyond(limit: float, what: str) -> str:
    return f"it {what}, more than the limit of {100 * limit:g} %"
