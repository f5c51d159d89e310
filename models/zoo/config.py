"""Which model, and its options: one frozen value per kind. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data.spec import Frozen


class CNNConfig(Frozen):
    """A small residual network; the default."""

    kind: Literal["cnn"] = "cnn"
    width: int = Field(32, ge=8, le=512, title="Width", description="channels of the first stage; doubles each stage")
    depth: int = Field(1, ge=1, le=8, title="Depth", description="residual blocks in each stage")
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", description="before the classifier")


class ViTConfig(Frozen):
    """A plain Vision Transformer."""

    kind: Literal["vit"] = "vit"
    patch: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Patch",
        description="side of a patch in pixels; by default about an eighth of the image, and at least 2",
    )
    dim: int = Field(128, ge=8, le=2048, title="Width", description="width of a token")
    depth: int = Field(6, ge=1, le=48, title="Depth", description="Transformer blocks")
    heads: int = Field(4, ge=1, le=32, title="Heads", description="attention heads; must divide the width")
    mlp_ratio: int = Field(2, ge=1, le=8, title="MLP ratio", description="hidden width over token width")
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", description="in the blocks")
    stochastic_depth: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Stochastic depth",
        description="how often the last block is skipped in training; the others less, in proportion to their depth",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads {self.heads} does not divide dim {self.dim}; use a divisor of {self.dim}")
        return self


ModelConfig = Annotated[CNNConfig | ViTConfig, Field(discriminator="kind", title="Model")]
