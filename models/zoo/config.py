"""Which model, and its options: one frozen value per kind. No torch here."""

from typing import Annotated, Literal

from pydantic import Field

from data.spec import Frozen
from models.zoo.config_classic import ClassicConfig
from models.zoo.config_depth import SkipRate
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.config_transformer import ConvViTConfig, ViTConfig


class CNNConfig(Frozen):
    """A small residual network; the default."""

    kind: Literal["cnn"] = "cnn"
    width: int = Field(32, ge=8, le=512, title="Width", description="channels of the first stage; doubles each stage")
    depth: int = Field(1, ge=1, le=8, title="Depth", description="residual blocks in each stage, see blocks")
    blocks: Literal["even", "late"] = Field(
        "late",
        title="Blocks",
        description="late: of four stages one fewer in the first and one more in the third; or even: as many in each",
    )
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", description="before the classifier")
    stochastic_depth: SkipRate = 0.0
    pool: Literal["mean", "gem"] = Field(
        "gem",
        title="Pooling",
        description="over the places of the last stage: gem, a cubic mean, which heeds the strongest; or the mean",
    )


class WhitenedConfig(Frozen):
    """For many small pictures and few epochs: a first layer computed from the pictures, then six convolutions."""

    kind: Literal["whitened"] = "whitened"
    width: int = Field(
        64, ge=4, le=512, title="Width", description="channels of the first group; of the other two four times as many"
    )
    scale: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Scale of the logits",
        description="what they are multiplied by; the less, the slower the classifier learns beside the rest",
    )


ModelConfig = Annotated[
    CNNConfig | ViTConfig | ConvViTConfig | ClassicConfig | WhitenedConfig | PretrainedConfig,
    Field(discriminator="kind", title="Model"),
]
