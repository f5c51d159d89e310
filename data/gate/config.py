"""How much each rule of the gate may decide. Every class offers the levels that its rule can carry out, no other."""

from pydantic import Field

from data.frozen import Frozen
from data.gate.config_looks import (
    Blank,
    Blurred,
    Dark,
    Light,
    Near,
    NearContradictions,
    NearLeakage,
    OddAspect,
    OddSize,
)
from data.gate.levels import Level, OfNoUse, OfTheWhole


class Unreadable(Frozen):
    """Files that are no picture, or a damaged one."""

    level: OfNoUse = Field(
        "drop",
        title="Unreadable pictures",
        description="drop: left out, up to the share dataset.max_unreadable; stop: refused, be it one",
    )


class Truncated(Frozen):
    """Picture files whose end is missing, as an interrupted copy leaves them."""

    level: OfNoUse = Field(
        "drop",
        title="Truncated pictures",
        description="drop: left out, counted as unreadable; stop: refused, be it one",
    )


class Copies(Frozen):
    """The same file several times within a class."""

    level: Level = Field(
        "warn",
        title="Copies within a class",
        description="drop: of each content one picture is left; warn: each copy counts, unless train and test share it",
    )


class Contradictions(Frozen):
    """The same file in several classes."""

    level: Level = Field(
        "warn",
        title="Copies in several classes",
        description="drop: such a picture is not trained on; warn: it is, in each of its classes",
    )


class Leakage(Frozen):
    """The same file in several of the parts that the source states."""

    level: OfNoUse = Field(
        "drop",
        title="Copies in several parts",
        description="drop: test keeps it, or validation where test has none; stop: refused",
    )


class GroupLeakage(Frozen):
    """Pictures of one group in several of the parts that the source states."""

    level: Level = Field(
        "stop",
        title="Groups in several parts",
        description="drop: test keeps what it has of them, or validation where test has none; warn: all is used",
    )


class Imbalance(Frozen):
    """Classes of very different sizes."""

    level: OfTheWhole = Field("warn", title="Imbalance", description="of the classes")
    threshold: float = Field(
        10, ge=1, title="Imbalance from", description="pictures of the largest class for one of the smallest, more than"
    )


class Few(Frozen):
    """Classes with hardly any picture."""

    level: OfTheWhole = Field("stop", title="Few pictures", description="of a class")
    threshold: int = Field(
        3, ge=1, title="Few below", description="different readable pictures of a class: to train, choose, test"
    )


class ShiftRule(Frozen):
    """Test pictures of another kind than the training pictures."""

    level: OfTheWhole = Field("warn", title="Shift", description="test pictures that are told from training pictures")
    threshold: float = Field(
        0.8,
        gt=0.5,
        le=1,
        title="Shift from",
        description="share of pairs of a test and a training picture in which simple statistics tell which is which "
        "(area under the ROC curve, 0.5 is chance), where that has p < 0.01",
    )


class ClassesChanged(Frozen):
    """Classes that are new or gone since the data set was last prepared."""

    level: OfTheWhole = Field("warn", title="Changed classes", description="since the data set was last prepared")


class Labels(Frozen):
    """Labels that a network doubts which was not trained on their pictures."""

    level: OfTheWhole = Field(
        "warn",
        title="Doubtful labels",
        description="looked for once networks have answered; stop: before the final training, by crossval.folds",
    )


class GateConfig(Frozen):
    """The rules of the gate."""

    unreadable: Unreadable = Field(default_factory=Unreadable, title="Unreadable pictures")
    truncated: Truncated = Field(default_factory=Truncated, title="Truncated pictures")
    copies: Copies = Field(default_factory=Copies, title="Copies within a class")
    contradictions: Contradictions = Field(default_factory=Contradictions, title="Copies in several classes")
    leakage: Leakage = Field(default_factory=Leakage, title="Copies in several parts")
    dark: Dark = Field(default_factory=Dark, title="Dark pictures")
    light: Light = Field(default_factory=Light, title="Light pictures")
    blank: Blank = Field(default_factory=Blank, title="Blank pictures")
    blurred: Blurred = Field(default_factory=Blurred, title="Blurred pictures")
    odd_size: OddSize = Field(default_factory=OddSize, title="Odd sizes")
    odd_aspect: OddAspect = Field(default_factory=OddAspect, title="Odd shapes")
    near: Near = Field(default_factory=Near, title="Near copies within a class")
    near_contradictions: NearContradictions = Field(
        default_factory=NearContradictions, title="Near copies in several classes"
    )
    near_leakage: NearLeakage = Field(default_factory=NearLeakage, title="Near copies in several parts")
    group_leakage: GroupLeakage = Field(default_factory=GroupLeakage, title="Groups in several parts")
    imbalance: Imbalance = Field(default_factory=Imbalance, title="Imbalance")
    few: Few = Field(default_factory=Few, title="Few pictures")
    shift: ShiftRule = Field(default_factory=ShiftRule, title="Shift")
    labels: Labels = Field(default_factory=Labels, title="Doubtful labels")
    classes_changed: ClassesChanged = Field(default_factory=ClassesChanged, title="Changed classes")
