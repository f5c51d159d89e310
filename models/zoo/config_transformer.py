"""Transformers and their attention: one frozen value per kind. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data.spec import Frozen
from models.zoo.config_depth import SkipRate


class FullAttention(Frozen):
    """Every token looks at every token."""

    kind: Literal["full"] = "full"


class LocalAttention(Frozen):
    """A token looks at its neighbourhood in the picture."""

    kind: Literal["local"] = "local"
    window: int = Field(
        5, ge=1, le=127, title="Window", description="side of the neighbourhood in tokens, odd; the token is its centre"
    )

    @model_validator(mode="after")
    def _has_a_centre(self) -> Self:
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} has no centre; use {self.window - 1} or {self.window + 1}")
        return self


class StridedAttention(Frozen):
    """A token looks at its own tile, and at its own place in every other tile."""

    kind: Literal["strided"] = "strided"
    stride: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Stride",
        description="side of a tile in tokens; by default about the fourth root of the number of tokens",
    )


class GlobalAttention(Frozen):
    """A token looks at itself and at special tokens, which look at everything."""

    kind: Literal["global"] = "global"
    tokens: int = Field(4, ge=1, le=256, title="Special tokens", description="learned, added to those of the picture")


class ClusteredAttention(Frozen):
    """A token looks at the tokens that are like it."""

    kind: Literal["clustered"] = "clustered"
    clusters: int | None = Field(
        None,
        ge=1,
        le=1024,
        title="Clusters",
        description="in each head; by default about the square root of the number of tokens",
    )


class SinkhornAttention(Frozen):
    """A tile of tokens looks at itself and at the tile that a learned sorting puts in its place."""

    kind: Literal["sinkhorn"] = "sinkhorn"
    buckets: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Buckets",
        description="tiles along each side of the picture; by default about the square root of the tokens along it",
    )
    iterations: int = Field(8, ge=1, le=100, title="Iterations", description="of Sinkhorn's balancing")


class LinformerAttention(Frozen):
    """A token looks at a few learned mixtures of all tokens."""

    kind: Literal["linformer"] = "linformer"
    rank: int = Field(32, ge=1, le=4096, title="Rank", description="number of mixtures; at most that of the tokens")


class LinearAttention(Frozen):
    """Products of feature maps instead of the softmax, so that tokens never meet in pairs."""

    kind: Literal["linear"] = "linear"
    feature_map: Literal["elu", "relu", "random"] = Field(
        "elu", title="Feature map", description="elu + 1, relu, or random features that approximate the softmax"
    )
    features: int = Field(64, ge=1, le=4096, title="Features", description="how many random ones")


class SynthesizerAttention(Frozen):
    """The weights do not come from comparing tokens."""

    kind: Literal["synthesizer"] = "synthesizer"
    form: Literal["dense", "random"] = Field(
        "dense", title="Form", description="dense: computed from the token alone; random: learned, for all pictures"
    )


AttentionConfig = Annotated[
    FullAttention
    | LocalAttention
    | StridedAttention
    | GlobalAttention
    | ClusteredAttention
    | SinkhornAttention
    | LinformerAttention
    | LinearAttention
    | SynthesizerAttention,
    Field(discriminator="kind", title="Attention"),
]

WITHOUT_ANGLES = (LinearAttention, SynthesizerAttention)  # no product of a query and a key is in them


class TransformerConfig(Frozen):
    """What the Transformers share: the blocks, and how pictures get in and an answer gets out."""

    dim: int = Field(128, ge=8, le=2048, title="Width", description="width of a token")
    depth: int = Field(6, ge=1, le=48, title="Depth", description="Transformer blocks")
    heads: int = Field(4, ge=1, le=32, title="Heads", description="attention heads; must divide the width")
    mlp_ratio: int = Field(2, ge=1, le=8, title="MLP ratio", description="hidden width over token width")
    attention: AttentionConfig = Field(default_factory=FullAttention)
    position: Literal["learned", "sinusoidal", "rotary", "none"] = Field(
        "learned",
        title="Position",
        description="how a token knows its row and column: added (learned ones start as sines), or turned into "
        "queries and keys",
    )
    pool: Literal["mean", "token", "sequence"] = Field(
        "mean",
        title="Pool",
        description="what is classified: the mean of the picture's tokens, a class token, or a learned weighted mean",
    )
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", description="of tokens, and in the blocks")
    stochastic_depth: SkipRate = 0.0

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads {self.heads} does not divide dim {self.dim}; use a divisor of {self.dim}")
        return self

    @model_validator(mode="after")
    def _rotary_fits(self) -> Self:
        if self.position != "rotary":
            return self
        if isinstance(self.attention, WITHOUT_ANGLES):
            raise ValueError(
                f"position rotary turns queries against keys, which attention {self.attention.kind} does not compare; "
                "use learned, sinusoidal or none"
            )
        if self.dim // self.heads % 4:
            raise ValueError(
                f"position rotary needs heads of 4, 8, 12 ... channels, and dim {self.dim} with heads {self.heads} "
                f"gives {self.dim // self.heads}; use a dim that is a multiple of {4 * self.heads}"
            )
        return self


class ViTConfig(TransformerConfig):
    """A plain Vision Transformer."""

    kind: Literal["vit"] = "vit"
    patch: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Patch",
        description="side of a patch in pixels; by default about an eighth of the image, and at least 2",
    )


class ConvViTConfig(TransformerConfig):
    """A Transformer behind a few convolutions: the better one for small data."""

    kind: Literal["conv_vit"] = "conv_vit"
    pool: Literal["mean", "token", "sequence"] = Field(
        "sequence",
        title="Pool",
        description="what is classified: the mean of the picture's tokens, a class token, or a learned weighted mean",
    )
    stochastic_depth: SkipRate = 0.1
    convolutions: int | None = Field(
        None,
        ge=1,
        le=6,
        title="Convolutions",
        description="before the blocks, each halving the picture; by default until it has at most 15 tokens a side",
    )
    kernel: Literal[3, 5, 7] = Field(3, title="Kernel", description="side of the convolutions")
    channels: int = Field(64, ge=8, le=1024, title="Channels", description="between the convolutions")
