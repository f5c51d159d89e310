"""How much the rules about looks and near copies may decide; with the others in `config.GateConfig`."""

from pydantic import Field

from data.frozen import Frozen
from data.gate.levels import Level


class Dark(Frozen):
    """Pictures without light."""

    level: Level = Field("warn", title="Dark pictures", description="without a bright spot")
    threshold: float = Field(
        0.44,
        gt=0,
        le=1,
        title="Dark below",
        description="brightness, 0 to 1, that 99 % of a picture's pixels stay below",
    )


class Light(Frozen):
    """Pictures that are overexposed."""

    level: Level = Field("warn", title="Light pictures", description="without a dark spot")
    threshold: float = Field(
        0.44,
        gt=0,
        le=1,
        title="Light below",
        description="darkness, 0 to 1, that 95 % of a picture's pixels stay below",
    )


class Blank(Frozen):
    """Pictures of one colour, or nearly."""

    level: Level = Field("warn", title="Blank pictures", description="of one colour, or nearly")
    threshold: float = Field(
        0.3, gt=0, le=1, title="Blank below", description="entropy of a picture's grey values, in tenths of a bit"
    )


class Blurred(Frozen):
    """Pictures without a sharp edge."""

    level: Level = Field("warn", title="Blurred pictures", description="from 32 pixels a side on")
    threshold: float = Field(
        0.32,
        gt=0,
        le=1,
        title="Blurred below",
        description="sharpness, 0 to 1: how fine the edges are, at 32 pixels a side",
    )


class OddSize(Frozen):
    """Pictures much larger or smaller than the others."""

    level: Level = Field("warn", title="Odd sizes", description="much larger or smaller files than the others")
    threshold: float = Field(
        3, gt=0, title="Odd size from", description="distances between the quartiles of all sizes, beyond these"
    )


class OddAspect(Frozen):
    """Pictures that are very long or very high."""

    level: Level = Field("warn", title="Odd shapes", description="very wide or very high pictures")
    threshold: float = Field(
        0.35, gt=0, le=1, title="Odd shape below", description="the shorter side, as a share of the longer one"
    )


ALIKE = 0.93
LEAST_ALIKE = 0.5  # what is less so is not remembered
OF_ALIKE = "how alike, up to 1, the pixels of two pictures are (correlation at 16 x 16), from 32 pixels a side on"


class Near(Frozen):
    """Nearly the same picture several times within a class."""

    level: Level = Field(
        "warn", title="Near copies within a class", description="drop: of each group one picture is left"
    )
    threshold: float = Field(ALIKE, ge=LEAST_ALIKE, le=1, title="Near from", description=OF_ALIKE)


class NearContradictions(Frozen):
    """Nearly the same picture in several classes."""

    level: Level = Field(
        "warn", title="Near copies in several classes", description="drop: none of such a group is trained on"
    )
    threshold: float = Field(ALIKE, ge=LEAST_ALIKE, le=1, title="Near from", description=OF_ALIKE)


class NearLeakage(Frozen):
    """Nearly the same picture in several parts."""

    level: Level = Field(
        "warn",
        title="Near copies in several parts",
        description="drop: test keeps its picture, or validation where test has none, and train loses it",
    )
    threshold: float = Field(ALIKE, ge=LEAST_ALIKE, le=1, title="Near from", description=OF_ALIKE)
