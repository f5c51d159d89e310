"""Whether a model goes into service, and why, as a list of checks: frozen values. No torch here."""

from typing import Literal

from data.spec import Frozen

Relation = Literal["first", "better", "not worse", "same", "unproven", "worse"]
Kind = Literal["unchanged", "blur", "noise", "jpeg", "brightness"]

MARKS = {True: "✓", False: "✗", None: "·"}
"""Of `Check.ok`, for a table."""


class Check(Frozen):
    """One thing that was looked at before the decision; a model is promoted when no check has failed."""

    name: str
    value: float | None  # in the unit that `said` names; None: could not be measured
    limit: float | None  # None: nothing was asked for
    ok: bool | None  # None: it decides nothing
    said: str  # both in words, with the setting that decides where it failed


class Level(Frozen):
    """Two models on the same test pictures, all changed in one way: `models.evaluation.robustness`."""

    kind: Kind
    strength: float
    n: int
    challenger: float  # accuracy
    champion: float | None = None
    p_value: float | None = None  # one-sided exact McNemar, of a loss

    @property
    def name(self) -> str:
        match self.kind:
            case "unchanged":
                return "no change"
            case "blur":
                return f"blur of {self.strength:g} px"
            case "noise":
                return f"noise of {self.strength:g}"
            case "jpeg":
                return f"JPEG quality {self.strength:g}"
            case "brightness":
                return f"brightness x {self.strength:g}"


class Verdict(Frozen):
    """Whether a challenger replaces the champion, and why."""

    promoted: bool
    relation: Relation
    reason: str  # one sentence with the figures
    n: int  # test pictures compared
    challenger_accuracy: float
    champion_accuracy: float | None = None
    difference: float | None = None  # challenger minus champion
    difference_low: float | None = None  # one-sided lower confidence limit
    p_value: float | None = None  # exact McNemar, two-sided
    champion: str | None = None  # name@version
    checks: tuple[Check, ...] = ()  # empty where none was due: the model is in service already, or cannot be compared
    robustness: tuple[Level, ...] = ()  # unchanged first; empty where it was not tried


def failed(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """Those that stand in the way."""
    return tuple(check for check in checks if check.ok is False)
