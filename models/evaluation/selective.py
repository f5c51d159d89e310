"""When an answer counts as sure: a threshold on its probability, chosen on validation pictures. No torch here.

Selective classification with a guaranteed risk (Geifman and El-Yaniv, 2017, https://arxiv.org/abs/1705.08500): of the
answers with a probability above the threshold at most the stated share is wrong, with the stated confidence. Thresholds
are tested as in Learn then Test (https://arxiv.org/abs/2110.01052), from strict to loose, from a few places on that
share the error among them; each run of tests goes on until one fails, so that it costs nothing to look at many.

How many of the surest answers are looked at is decided beforehand, by their number alone. The threshold is then the
probability of the next answer; given that, those above it are independent draws from all answers above it, ties or not,
so the number of wrong ones is binomial and its bound exact. A run of tests keeps to its error where answers above a
lower threshold are no more often right than those above a higher one, as those of a calibrated model are.

All this is true of pictures that come about as the validation pictures did, and as far as these decided nothing else:
they chose the epoch and the temperature, too. What the threshold does is therefore told by the test pictures.
"""

import math

import numpy as np

from models.cards import Selective, Sure
from models.evaluation.config import AnswerConfig
from models.evaluation.metrics import wilson
from models.evaluation.percent import percent

RANKS = 50  # thresholds that are looked at, at most
STARTS = 4  # of these, from which the tests go on
ANY = 0.0  # a threshold that every answer is above


def fewest(risk: float, error: float) -> int:
    """Pictures that have to be answered, all of them right, to prove with this probability of an error that at most
    `risk` of such answers are wrong."""
    return math.ceil(math.log(error) / math.log(1 - risk))


def starts(n: int, *, risk: float, confidence: float) -> int:
    """How many of them share the error; 0 where n pictures are too few to prove anything."""
    return min(STARTS, n // fewest(risk, 1 - confidence))


def ranks(n: int, *, risk: float, confidence: float) -> np.ndarray:
    """How many of n answers, the surest first, are looked at: rising int64, by n alone. The last is n."""
    shared = (1 - confidence) / starts(n, risk=risk, confidence=confidence)
    first = min(n, fewest(risk, shared))
    return np.linspace(n, first, min(RANKS, n - first + 1)).round().astype(np.int64)[::-1]


def threshold(probabilities: np.ndarray, labels: np.ndarray, *, risk: float, confidence: float) -> float | None:
    """The smallest one whose answers are proved to keep to the risk; None where none is.

    probabilities (N, K), labels (N,). An answer is sure if its probability is above the threshold.
    """
    from scipy.stats import binom

    num = starts(len(labels), risk=risk, confidence=confidence)
    if not num:
        return None
    looked_at = ranks(len(labels), risk=risk, confidence=confidence)
    surest, wrong = _surest_first(probabilities, labels)
    limits = np.append(surest, ANY)[looked_at]  # the last of `looked_at` is all of them
    above = np.searchsorted(-surest, -limits)  # how many are strictly above: with ties fewer than were looked at
    found = binom.cdf(np.append(0, np.cumsum(wrong))[above], above, risk)  # as few wrong ones, were they `risk` of all
    proved = found <= (1 - confidence) / num
    passed = proved | (above < looked_at[0])  # many equal answers leave too few above them to prove anything by
    begin = {len(looked_at) * i // num for i in range(num)}
    chosen, going_on = None, False
    for i in range(len(looked_at)):
        going_on = bool(passed[i]) and (going_on or i in begin)
        chosen = float(limits[i]) if going_on and proved[i] else chosen
    return chosen


def _surest_first(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) probabilities of the answers, falling; (N,) bool, which are wrong."""
    answer = probabilities.max(axis=1)
    order = np.argsort(-answer, kind="stable")
    return answer[order], (probabilities.argmax(axis=1) != labels)[order]


def sure(probabilities: np.ndarray, labels: np.ndarray, limit: float) -> Sure:
    """What a threshold does to N pictures that it was not chosen on."""
    above = probabilities.max(axis=1) > limit
    n, answered = len(labels), int(above.sum())
    wrong = int((probabilities.argmax(axis=1) != labels)[above].sum())
    return Sure(
        n=n,
        answered=answered,
        wrong=wrong,
        coverage=wilson(answered, n),
        error=wilson(wrong, answered) if answered else None,
    )


def selective(
    val: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], *, config: AnswerConfig
) -> Selective | None:
    """Each of `val` and `test`: probabilities (N, K), labels (N,). None where no risk is stated."""
    risk, confidence = config.risk, config.confidence
    if risk is None:
        return None
    limit, n = threshold(*val, risk=risk, confidence=confidence), len(val[1])
    asked = f"at most {100 * risk:g} % wrong, with {100 * confidence:g} % confidence by {n:,} validation pictures"
    done = None
    if limit is None:
        needed = fewest(risk, 1 - confidence)
        why = f"it takes {needed:,} or more" if n < needed else "too many of the surest answers are wrong, for so few"
        said = f"no threshold gives {asked}: {why}; raise answer.risk, or bring more pictures"
    else:
        done = sure(*test, limit)
        which = "every answer" if limit <= ANY else f"an answer of more than {_told_limit(limit)}"
        said = f"{which} counts as sure ({asked}): {told(done)}"
    return Selective(risk=risk, confidence=confidence, threshold=limit, n=n, test=done, said=said)


def _told_limit(limit: float) -> str:
    """Near 1 with more digits: "more than 100.0 %" would be said of no answer."""
    digits = math.floor(-math.log10(1 - limit)) - 1 if limit < 1 else 1
    return f"{100 * limit:.{max(1, digits)}f} %"


def told(found: Sure) -> str:
    """In words: the coverage, and how many of these are wrong, with intervals."""
    share, of = found.answered / found.n, found.coverage
    covered = f"{percent(share)} of {found.n:,} test pictures ({percent(of.low)} to {percent(of.high)})"
    if found.error is None:
        return covered
    between = f"{percent(found.error.low)} to {percent(found.error.high)}"
    return f"{covered}, {percent(found.wrong / found.answered)} of them answered wrong ({between})"


def curve(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Risk against coverage: (share answered, share of these that are wrong), rising, one point for each threshold that
    tells answers apart. https://www.jmlr.org/papers/v11/el-yaniv10a.html"""
    surest, wrong = _surest_first(probabilities, labels)
    last = np.append(np.diff(surest) != 0, True)  # of those with equal probabilities
    answered = np.arange(1, len(labels) + 1)[last]
    return answered / len(labels), np.cumsum(wrong)[last] / answered
