"""Challenger against champion on the same test pictures -> Verdict. No torch here.

N pictures, K classes. Only the pictures that exactly one of the two gets right say anything about the difference:
`lost` (champion right, challenger wrong) and `gained` (the reverse).

- Significance: exact McNemar test, which is a binomial test of `gained` among `gained + lost`.
- Not worse: the lower score limit for a difference of paired proportions, Tango (1998),
  https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B. The exact interval conditional on
  the discordant pairs is not used: it takes their number for a known share, and so lets through a model that only
  loses (simulated in tests/models/test_compare.py).

A significant loss is refused even within the margin: night after night, small allowed losses would add up.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.config import ReleaseConfig
from models.evaluation.metrics import checked
from models.records import Verdict

Relation = Literal["better", "not worse", "same", "unproven", "worse"]


@dataclass(frozen=True)
class Paired:
    """How two models answered the same pictures."""

    n: int
    gained: int  # challenger right, champion wrong
    lost: int  # champion right, challenger wrong
    p_value: float  # exact McNemar, two-sided
    difference_low: float  # one-sided lower limit of the accuracy difference

    @property
    def difference(self) -> float:
        return (self.gained - self.lost) / self.n


def compare(
    *,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    labels: np.ndarray,
    classes: tuple[str, ...],
    config: ReleaseConfig,
    champion_name: str | None,
) -> Verdict:
    """Both (N, K) probabilities of the same N test pictures; labels (N,). Raises ValueError when they do not fit.

    `relation` speaks of accuracy alone; `promoted` also asks that no class is lost (see `fallen_classes`).
    """
    right_new = checked(challenger, labels, len(classes)).argmax(axis=1) == labels
    if champion is None:
        return _first(right_new, labels, classes, config)
    right_old = checked(champion, labels, len(classes)).argmax(axis=1) == labels
    pairs = paired(right_new, right_old, confidence=config.confidence)
    same = bool((challenger.argmax(axis=1) == champion.argmax(axis=1)).all())
    relation = relate(pairs, same=same, config=config)
    fallen = fallen_classes(right_new, right_old, labels, classes, config)
    return Verdict(
        promoted=relation in ("better", "not worse") and not fallen,
        relation=relation,
        reason=_reason(relation, pairs, fallen, right_new, right_old, config, champion_name or "the champion"),
        n=pairs.n,
        challenger_accuracy=float(right_new.mean()),
        champion_accuracy=float(right_old.mean()),
        difference=pairs.difference,
        difference_low=pairs.difference_low,
        p_value=pairs.p_value,
        champion=champion_name,
    )


def paired(right_new: np.ndarray, right_old: np.ndarray, *, confidence: float) -> Paired:
    """Both (N,) bool: was the answer right."""
    from scipy.stats import binomtest

    n, gained, lost = len(right_new), int((right_new & ~right_old).sum()), int((right_old & ~right_new).sum())
    return Paired(
        n=n,
        gained=gained,
        lost=lost,
        p_value=float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        difference_low=lowest_difference(gained=gained, lost=lost, n=n, confidence=confidence),
    )


def lowest_difference(*, gained: int, lost: int, n: int, confidence: float) -> float:
    """Tango's one-sided lower limit for (gained - lost) / n: the smallest difference that the data do not reject."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    if lost == n:
        return -1.0
    z = float(norm.ppf(confidence))

    def surplus(difference: float) -> float:
        """Positive while `difference` is rejected as too small."""
        # The most likely share of lost pictures, were this the true difference: root of 2n s^2 + b s + c = 0.
        b = difference * (2 * n + lost - gained) - (gained + lost)
        c = -lost * difference * (1 - difference)
        share = (np.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return float(gained - lost - n * difference - z * np.sqrt(max(variance, 0.0)))

    return float(brentq(surplus, -1.0, (gained - lost) / n - 1e-9))


def relate(pairs: Paired, *, same: bool, config: ReleaseConfig) -> Relation:
    if same:
        return "same"  # nothing would be gained by moving
    if pairs.p_value < 1 - config.confidence:
        return "better" if pairs.gained > pairs.lost else "worse"
    return "not worse" if pairs.difference_low >= -config.margin else "unproven"


def fallen_classes(
    right_new: np.ndarray, right_old: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], config: ReleaseConfig
) -> tuple[str, ...]:
    """Classes whose recall dropped by more than the class margin, in words.

    A drop counts only if it is no accident: one-sided exact McNemar on the class's own pictures, or three or more
    right before and none now. One mistake among three pictures is 33 points and says nothing.
    """
    from scipy.stats import binomtest

    fallen = []
    for index, label in enumerate(classes):
        here = labels == index
        new, old = right_new[here], right_old[here]
        if not here.any() or old.mean() - new.mean() <= config.class_margin:
            continue
        lost, gained = int((old & ~new).sum()), int((new & ~old).sum())
        significant = binomtest(lost, lost + gained, alternative="greater").pvalue < 1 - config.confidence
        if significant or (old.sum() >= 3 and not new.any()):
            fallen.append(f"{label} from {old.sum()} to {new.sum()} of {here.sum()}")
    return tuple(fallen)


def align(probabilities: np.ndarray, *, classes: tuple[str, ...], onto: tuple[str, ...]) -> np.ndarray:
    """(N, len(classes)) -> (N, len(onto)), columns matched by name: for a champion trained before a class was added.

    Classes it does not know get 0; those that no longer exist are left out and the rest made to sum to 1
    (in the champion's favour: its answer becomes the best of the classes that remain).
    """
    aligned = np.zeros((len(probabilities), len(onto)))
    for column, label in enumerate(onto):
        if label in classes:
            aligned[:, column] = probabilities[:, classes.index(label)]
    total = aligned.sum(axis=1, keepdims=True)
    return np.where(total > 0, aligned / np.where(total > 0, total, 1), 1 / len(onto))


def _first(right: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], config: ReleaseConfig) -> Verdict:
    """No champion: the model has to beat the class that is most frequent (one-sided exact binomial test)."""
    from scipy.stats import binomtest

    counts = np.bincount(labels, minlength=len(classes))
    majority = counts.max() / len(labels)
    p_value = float(binomtest(int(right.sum()), len(right), majority, alternative="greater").pvalue)
    promoted = p_value < 1 - config.confidence
    figures = (
        f"{_share(right)} of {len(right)} test pictures right, against {100 * majority:.1f} % "
        f"for always answering {classes[int(counts.argmax())]} (exact binomial p {_p(p_value)})"
    )
    return Verdict(
        promoted=promoted,
        relation="first",
        reason=f"First model: {figures}."
        if promoted
        else f"Not released: {figures}; train longer, or bring more test pictures.",
        n=len(right),
        challenger_accuracy=float(right.mean()),
    )


def _reason(
    relation: Relation,
    pairs: Paired,
    fallen: tuple[str, ...],
    right_new: np.ndarray,
    right_old: np.ndarray,
    config: ReleaseConfig,
    champion: str,
) -> str:
    """One sentence for an operator."""
    figures = (
        f"{_share(right_new)} against {_share(right_old)} of {pairs.n} test pictures right "
        f"({pairs.gained} gained, {pairs.lost} lost, McNemar p {_p(pairs.p_value)})"
    )
    loss, allowed = 100 * max(-pairs.difference_low, 0.0), f"{100 * config.margin:.1f}"
    surety = f"at {100 * config.confidence:g} % confidence"
    if fallen and relation in ("better", "not worse"):
        more = f" and {len(fallen) - 3} more" if len(fallen) > 3 else ""
        return (
            f"Kept {champion}: {figures}, but a class fell by more than {100 * config.class_margin:.0f} points: "
            f"{', '.join(fallen[:3])}{more}."
        )
    match relation:
        case "better":
            return f"Better than {champion}: {figures}."
        case "not worse":
            ruled_out = "any loss" if loss == 0 else f"a loss of more than {loss:.1f} points"
            return f"Not worse than {champion}: {figures}; {ruled_out} is ruled out {surety} and {allowed} are allowed."
        case "same":
            return f"Kept {champion}: the new model gives the same answer on all {pairs.n} test pictures."
        case "unproven":
            return (
                f"Kept {champion}: {figures}; a loss of up to {loss:.1f} points cannot be ruled out {surety} "
                f"and {allowed} are allowed, so bring more test pictures or raise release.margin."
            )
        case "worse":
            return f"Kept {champion}: the new model is worse, {figures}."


def _share(right: np.ndarray) -> str:
    return f"{100 * right.mean():.1f} %"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
