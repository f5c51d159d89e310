"""What a picture looks like to a network, and which pictures there are: frozen values, no code that runs."""

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from data.address import WITHOUT_SECRETS
from data.frozen import Frozen
from data.gate.config import GateConfig

__all__ = ["AugmentConfig", "DatasetSpec", "Frozen", "ImageSpec", "Part"]


class Part(StrEnum):
    """What an example is used for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class ImageSpec(Frozen):
    """The geometry of the network's input: all that `data.preprocess` needs to turn image bytes into pixels.

    Mean and standard deviation are not here: they are arithmetic, live inside the network
    (`models.pixels`) and travel in the ONNX graph.
    """

    height: int = Field(ge=1, le=1024, title="Height", description="pixels the network sees")
    width: int = Field(ge=1, le=1024, title="Width", description="pixels the network sees")
    channels: Literal[1, 3] = Field(3, title="Channels", description="1 for grey, 3 for colour")
    margin: int = Field(
        0,
        ge=0,
        le=256,
        title="Margin",
        description="pixels kept on each side in the stored picture, for random crops; "
        "evaluation and serving use the centre",
    )
    fit: Literal["crop", "pad", "stretch"] = Field(
        "crop", title="Fit", description="how another aspect ratio is made to fit"
    )

    @property
    def stored_height(self) -> int:
        return self.height + 2 * self.margin

    @property
    def stored_width(self) -> int:
        return self.width + 2 * self.margin


class DatasetSpec(Frozen):
    """Where the pictures come from and how they are looked at. `None` means: decided from the pictures."""

    source: str = Field(
        "digits",
        min_length=1,
        title="Source",
        description="digits, the name of a known data set, a folder, an archive (.zip .tar .tar.gz .tgz), a listing of "
        "pictures (.csv .parquet), the address of one of these (https:// s3:// gs://), a folder of shards "
        "(shards:DIR), or hub:OWNER/NAME",
        json_schema_extra={"pattern": WITHOUT_SECRETS},  # for forms; whoever reads the source says it in a sentence
    )
    name: str | None = Field(
        None,
        pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$",
        title="Name",
        description="what the data set and its model are called; by default taken from the source",
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        title="SHA-256",
        description="of the archive; a download that differs is refused",
    )
    size: int | None = Field(
        None, ge=4, le=1024, title="Size", description="side of the square the network sees, in pixels"
    )
    max_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        title="Largest size",
        description="upper bound of a size decided from the pictures; by default 96, and 128 for a pretrained backbone",
    )
    channels: Literal[1, 3] | None = Field(None, title="Channels", description="1 for grey, 3 for colour")
    margin: int = Field(0, ge=0, le=256, title="Margin", description="stored pixels beyond each side, for random crops")
    fit: Literal["crop", "pad", "stretch"] = Field(
        "crop", title="Fit", description="how another aspect ratio is made to fit"
    )
    val_fraction: float = Field(
        0.1, gt=0, lt=0.5, title="Validation share", description="split off where the source has none"
    )
    test_fraction: float = Field(
        0.15, gt=0, lt=0.5, title="Test share", description="split off where the source has none"
    )
    split_seed: int = Field(0, ge=0, title="Split seed", description="decides which pictures are split off")
    max_unreadable: float = Field(
        0.05, ge=0, le=1, title="Unreadable share", description="the run stops if more pictures cannot be read"
    )
    more: tuple[Annotated[str, Field(min_length=1, json_schema_extra={"pattern": WITHOUT_SECRETS})], ...] = Field(
        (),
        title="More sources",
        description="further sources of any kind, taken together with the first: a class of one name is one class",
    )
    group: str | None = Field(
        None,
        title="Group",
        description="a regular expression that finds in a picture's path, in its one bracket, what must not be in two "
        r"parts: a patient, a camera, such as ^[^/]+/(\w+?)_\d+",
    )
    split_by: Literal["content", "group", "time"] | None = Field(
        None,
        title="Split by",
        description="content: each picture by itself; group: groups stay together; time: the newest are the test; by "
        "default group where there are groups, else content",
    )
    label: str | None = Field(
        None,
        min_length=1,
        title="Label",
        description="the column that holds the class, where a table with pictures has several",
    )
    rename: tuple[str, ...] = Field(
        (),
        title="Rename",
        description="classes, as daisies=daisy,Rosa=rose: the first is called by the second from here on; background= "
        "leaves one out",
    )
    gate: GateConfig = Field(default_factory=GateConfig, title="Gate")

    @property
    def split_name(self) -> str:
        """In names of files: two of one name split the same pictures alike, divided in the same way."""
        return f"seed{self.split_seed}-val{self.val_fraction:g}-test{self.test_fraction:g}"

    @field_validator("group")
    @classmethod
    def _one_bracket(cls, group: str | None) -> str | None:
        try:
            brackets = 1 if group is None else re.compile(group).groups
        except re.error as error:
            raise ValueError(f"{group!r} is no regular expression: {error}; mend it, or leave it out") from None
        if brackets != 1:
            raise ValueError(
                f"{group!r} has {brackets} brackets; put one around what names the group, others as (?:...)"
            )
        return group

    @field_validator("rename")
    @classmethod
    def _each_class_once(cls, rename: tuple[str, ...]) -> tuple[str, ...]:
        old = [one.rpartition("=")[0].strip() for one in rename]
        for one, name in zip(rename, old, strict=True):
            if not name:
                raise ValueError(
                    f"{one!r} renames nothing; write such as daisies=daisy, or background= to leave it out"
                )
            if old.count(name) > 1:
                raise ValueError(f"{name!r} is renamed twice; leave one of the two")
        return rename


class AugmentConfig(Frozen):
    """Random changes to training pictures, on the device, in batches. `None` means: decided from the data."""

    crop: int | None = Field(
        None,
        ge=0,
        le=64,
        title="Crop padding",
        description="pixels of padding for the random crop of a picture "
        "stored without a margin; by default an eighth of the side, 0 below 16 pixels",
    )
    zoom: float | None = Field(
        None,
        ge=0,
        lt=1,
        title="Zoom",
        description="random crops cover at least 1 - zoom of the area; by default 0, and 0.75 for photographs, "
        "which are pictures of 48 pixels a side or more",
    )
    grow: float | None = Field(
        None,
        ge=0,
        lt=1,
        title="Grow",
        description="share of the epochs trained on pictures of two thirds of the side; by default 0, and 0.6 for "
        "photographs where the model takes any size",
    )
    rotate: float | None = Field(
        None,
        ge=0,
        le=180,
        title="Rotation",
        description="up to so many degrees either way; by default 0, and 20 for photographs with policy none",
    )
    flip: bool | None = Field(
        None, title="Mirror", description="mirror half of the pictures; off by default where it changes the class"
    )
    alternate: bool = Field(
        False, title="Mirror in turns", description="each picture in every other epoch, instead of at random"
    )
    erase: float = Field(0.0, ge=0, le=1, title="Erase", description="probability of a random rectangle being blanked")
    color: float | None = Field(
        None,
        ge=0,
        le=1,
        title="Colour",
        description="strength of brightness, contrast, saturation; by default 0, and 0.3 for photographs with policy "
        "none",
    )
    mixup: float | None = Field(
        None, ge=0, title="Mixup", description="alpha of the Beta distribution, such as 0.4; by default 0, for none"
    )
    cutmix: float | None = Field(
        None, ge=0, title="CutMix", description="alpha of the Beta distribution, such as 1; by default 0, for none"
    )
    policy: Literal["none", "trivial", "rand"] | None = Field(
        None,
        title="Policy",
        description="random operations on each picture, as in TrivialAugment or RandAugment; "
        "by default none, and trivial for photographs, which are pictures of 48 pixels a side or more",
    )
    rand_operations: int | None = Field(
        None, ge=1, le=8, title="RandAugment's operations", description="on each picture; by default 2"
    )
    rand_magnitude: int | None = Field(
        None, ge=0, le=30, title="RandAugment's magnitude", description="strength of each; by default 9"
    )

    @model_validator(mode="after")
    def _rand_is_meant(self) -> Self:
        if self.policy != "rand" and (self.rand_operations, self.rand_magnitude) != (None, None):
            raise ValueError(
                f"rand_operations and rand_magnitude mean nothing to policy {self.policy or 'none and trivial'}; "
                "set augment.policy to rand, or leave them out"
            )
        return self
