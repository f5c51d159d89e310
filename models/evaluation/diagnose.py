"""What the curves and figures of a run say, in sentences. No torch here.

Rules of thumb on what a run records; each is a function in `diagnosis/` that sees or does not see something, its limits
stated beside it. A run of before a measurement was recorded gets the rules that can do without it.
"""

from collections.abc import Callable, Iterator

from models.evaluation.diagnosis import curves, learned, parts, signals
from models.evaluation.diagnosis.remark import Evidence, Remark

Rule = Callable[[Evidence], Iterator[Remark]]

ALWAYS: tuple[Rule, ...] = (
    learned.not_learning,
    learned.underfitting,
    learned.overfitting,
    curves.rate_too_high,
    curves.rate_too_low,
    signals.vanishing,
    signals.exploding,
    signals.dead_units,
    parts.small_validation,
    parts.shift,
    parts.optimistic,
    curves.stopped,
    signals.curvature,
)
IF_IT_LEARNT: tuple[Rule, ...] = (curves.unfinished, curves.settled, parts.confidence, parts.weak_class)


def diagnose(run: Evidence) -> tuple[Remark, ...]:
    """The gravest first. Epochs are counted from 1 in the sentences. An empty history says nothing about curves."""
    rules = ALWAYS + (IF_IT_LEARNT if learned.above_majority(run) else ())
    remarks = [remark for rule in rules for remark in rule(run)]
    if all(remark.level != "warning" for remark in remarks) and learned.follows(run):
        text = "The curves look healthy: the loss falls and validation follows."
        remarks.append(Remark("healthy", "fine", text, picture="curves"))
    return tuple(sorted(remarks, key=gravity))


def gravity(remark: Remark) -> int:
    """That all is well is said before what is only noted."""
    return 1 if remark.kind == "healthy" else ("warning", "", "note", "fine").index(remark.level)
