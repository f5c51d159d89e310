"""A backbone with published weights: which one, and how much of it learns. No torch here."""

from typing import Literal

from pydantic import Field

from data.spec import Frozen

MAX_SIZE = 128  # pixels, unless asked for: a third of the work at the published 224, for photographs that have as many


class PretrainedConfig(Frozen):
    """A published backbone: its head trained, all of it, or adapters inside it."""

    kind: Literal["pretrained"] = "pretrained"
    backbone: str = Field(
        "resnet18",
        pattern=r"^(timm/)?[A-Za-z0-9_.\-]{1,100}$",
        title="Backbone",
        description="a classifier of torchvision.models, such as resnet50, or of timm, such as timm/convnext_atto",
    )
    weights: str | None = Field(
        None,
        min_length=1,
        title="Weights",
        description="a .safetensors or .pth file, or torchvision's name of them, such as IMAGENET1K_V1; "
        "by default the library's best, which it fetches",
    )
    tune: Literal["head", "full", "adapter"] = Field(
        "full",
        title="Tune",
        description="what learns: the head alone, everything, or the head and low-rank adapters in a frozen backbone",
    )
    rate: float | None = Field(
        None,
        gt=0,
        le=1,
        title="Backbone rate",
        description="share of the learning rate that the backbone, or its adapters, learn with; "
        "by default 0.05 for a backbone, 0.1 for adapters",
    )
    rank: int = Field(8, ge=1, le=256, title="Rank", description="of the adapters")

    @property
    def rate_share(self) -> float:
        """Of the peak of a network that starts at random: what is good already is only nudged.

        Adapters take AdamW's steps under Muon too, so with its peak of 2e-3 this is 2e-4, LoRA's own rate
        (https://arxiv.org/abs/2106.09685, table 11). At 1e-3 the steps of fifty layers add up to more than a deep
        frozen network bears: on a MobileNet the loss rose.
        """
        if self.rate is not None:
            return self.rate
        return 0.1 if self.tune == "adapter" else 0.05
