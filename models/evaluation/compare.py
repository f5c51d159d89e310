"""Challenger against champion on the same test pictures -> Verdict. No torch here.

N pictures, K classes. The accuracies are compared by `models.evaluation.pairs`: better is what McNemar's test proves;
not worse is what is not proved to be worse, and by both lower limits cannot have lost more than the margin. A
significant loss is refused even within the margin: night after night, small allowed losses would add up.
Beside that no class may be lost, and every limit that was asked for has to be kept: `models.evaluation.checks`.
"""

import numpy as np

from models.evaluation.checks import classes_kept, comparison, floors, p
from models.evaluation.config import ReleaseConfig
from models.evaluation.metrics import checked
from models.evaluation.pairs import Paired, of_a_loss, paired
from models.evaluation.percent import percent
from models.verdict import Check, Relation, Verdict, failed

OF_ACCURACY = ("new answers", "significance", "loss", "bootstrap")  # checks that `relation` sums up


def compare(
    *,
    challenger: np.ndarray,
    champion: np.ndarray | None,
    labels: np.ndarray,
    classes: tuple[str, ...],
    config: ReleaseConfig,
    champion_name: str | None,
    also: tuple[Check, ...] = (),
) -> Verdict:
    """Both (N, K) probabilities of the same N test pictures; labels (N,). `also`: checks of what probabilities do not
    show, such as the size. `relation` speaks of accuracy alone; `promoted` asks that no check has failed.
    Raises ValueError when they do not fit."""
    new = checked(challenger, labels, len(classes))
    asked = (*floors(new, labels, classes, config), *also)
    right_new = new.argmax(axis=1) == labels
    if champion is None:
        return _first(right_new, labels, classes, config, asked)
    old = checked(champion, labels, len(classes))
    right_old = old.argmax(axis=1) == labels
    pairs = paired(right_new, right_old, confidence=config.confidence)
    changed = int((new.argmax(axis=1) != old.argmax(axis=1)).sum())
    relation = relate(pairs, same=not changed, config=config)
    kept = classes_kept(fallen_classes(right_new, right_old, labels, classes, config), config)
    checks = (*comparison(pairs, changed=changed, relation=relation, config=config), kept, *asked)
    return Verdict(
        promoted=not failed(checks),
        relation=relation,
        reason=_reason(relation, pairs, checks, (right_new, right_old), config, champion_name or "the champion"),
        n=pairs.n,
        challenger_accuracy=float(right_new.mean()),
        champion_accuracy=float(right_old.mean()),
        difference=pairs.difference,
        difference_low=pairs.difference_low,
        p_value=pairs.p_value,
        champion=champion_name,
        checks=checks,
    )


def relation_of(challenger: np.ndarray, champion: np.ndarray, labels: np.ndarray, config: ReleaseConfig) -> Relation:
    """Both (N, K) probabilities of the same N pictures; labels (N,)."""
    new, old = challenger.argmax(axis=1), champion.argmax(axis=1)
    pairs = paired(new == labels, old == labels, confidence=config.confidence)
    return relate(pairs, same=np.array_equal(new, old), config=config)


def relate(pairs: Paired, *, same: bool, config: ReleaseConfig) -> Relation:
    if same:
        return "same"  # nothing would be gained by moving
    if pairs.p_value < 1 - config.confidence:
        return "better" if pairs.gained > pairs.lost else "worse"
    return "not worse" if min(pairs.difference_low, pairs.resampled_low) >= -config.margin else "unproven"


def fallen_classes(
    right_new: np.ndarray, right_old: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], config: ReleaseConfig
) -> tuple[str, ...]:
    """Classes whose recall dropped by more than the class margin, in words.

    A drop counts only if it is no accident: one-sided exact McNemar on the class's own pictures, or three or more
    right before and none now. One mistake among three pictures is 33 points and says nothing.
    """
    fallen = []
    for index, label in enumerate(classes):
        here = labels == index
        new, old = right_new[here], right_old[here]
        if not here.any() or old.mean() - new.mean() <= config.class_margin:
            continue
        if of_a_loss(new, old) < 1 - config.confidence or (old.sum() >= 3 and not new.any()):
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


def _first(
    right: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], config: ReleaseConfig, asked: tuple[Check, ...]
) -> Verdict:
    """No champion: the model has to beat the class that is most frequent (one-sided exact binomial test)."""
    from scipy.stats import binomtest

    counts = np.bincount(labels, minlength=len(classes))
    majority, frequent = counts.max() / len(labels), classes[int(counts.argmax())]
    p_value = float(binomtest(int(right.sum()), len(right), majority, alternative="greater").pvalue)
    figures = (
        f"{_share(right)} of {len(right)} test pictures right, against {100 * majority:.1f} % "
        f"for always answering {frequent} (exact binomial p {p(p_value)})"
    )
    beats = Check(
        name="majority",
        value=p_value,
        limit=1 - config.confidence,
        ok=p_value < 1 - config.confidence,
        said=f"{percent(majority)} for always answering {frequent}; exact binomial p {p(p_value)}",
    )
    checks = (beats, *asked)
    if not beats.ok:
        reason = f"Not released: {figures}; train longer, or bring more test pictures{_and(failed(asked))}."
    elif standing := failed(asked):
        reason = f"Not released: {figures}, but {standing[0].said}{_and(standing[1:])}."
    else:
        reason = f"First model: {figures}."
    return Verdict(
        promoted=not failed(checks),
        relation="first",
        reason=reason,
        n=len(right),
        challenger_accuracy=float(right.mean()),
        checks=checks,
    )


def _reason(
    relation: Relation,
    pairs: Paired,
    checks: tuple[Check, ...],
    right: tuple[np.ndarray, np.ndarray],
    config: ReleaseConfig,
    champion: str,
) -> str:
    """One sentence for an operator."""
    share = f"{_share(right[0])} against {_share(right[1])} of {pairs.n} test pictures right"
    figures = f"{share} ({pairs.gained} gained, {pairs.lost} lost, McNemar p {p(pairs.p_value)})"
    low = min(pairs.difference_low, pairs.resampled_low)
    loss, allowed = 100 * max(-low, 0.0), f"{100 * config.margin:.1f}"
    surety = f"at {100 * config.confidence:g} % confidence"
    others = tuple(check for check in failed(checks) if check.name not in OF_ACCURACY)
    if others and relation in ("better", "not worse"):
        return f"Kept {champion}: {figures}, but {others[0].said}{_and(others[1:])}."
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
                f"and {allowed} are allowed, so bring more test pictures or raise release.margin{_and(others)}."
            )
        case "worse":
            return f"Kept {champion}: the new model is worse, {figures}{_and(others)}."
        case "first":
            raise ValueError("a first model is compared with no champion")


def _and(others: tuple[Check, ...]) -> str:
    """The further checks that failed, by name."""
    return f"; {', '.join(check.name for check in others)} failed too" if others else ""


def _share(right: np.ndarray) -> str:
    return percent(float(right.mean()))
