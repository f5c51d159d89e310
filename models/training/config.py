"""Which optimiser and which course of its rate: one frozen value per kind. No torch here."""

from typing import Annotated, Literal

from pydantic import Field

from data.spec import Frozen


class AdamWConfig(Frozen):
    """AdamW, https://arxiv.org/abs/1711.05101."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(2e-3, gt=0, title="Learning rate", description="peak, reached after the warm-up")
    weight_decay: float = Field(0.05, ge=0, title="Weight decay", description="not applied to biases and norms")
    betas: tuple[float, float] = Field((0.9, 0.999), title="Betas", description="decay of the two moment averages")


class SGDConfig(Frozen):
    """SGD with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(0.1, gt=0, title="Learning rate", description="peak, reached after the warm-up")
    weight_decay: float = Field(5e-4, ge=0, title="Weight decay", description="not applied to biases and norms")
    momentum: float = Field(0.9, ge=0, lt=1, title="Momentum", description="0 for none")
    nesterov: bool = Field(True, title="Nesterov", description="look-ahead momentum")


class MuonConfig(Frozen):
    """Muon for the weights inside the network, AdamW for the rest, https://arxiv.org/abs/2502.16982."""

    kind: Literal["muon"] = "muon"
    lr: float = Field(2e-3, gt=0, title="Learning rate", description="peak, reached after the warm-up")
    weight_decay: float = Field(0.2, ge=0, title="Weight decay", description="not applied to biases and norms")
    momentum: float = Field(0.9, ge=0, lt=1, title="Momentum", description="of the orthogonal updates")
    betas: tuple[float, float] = Field((0.9, 0.999), title="Betas", description="of AdamW's part")


OptimizerConfig = Annotated[AdamWConfig | SGDConfig | MuonConfig, Field(discriminator="kind", title="Optimizer")]


class ScheduleConfig(Frozen):
    """How the learning rate moves: up linearly during the warm-up, then as `kind` says, once per step."""

    kind: Literal["cosine", "constant"] = Field("cosine", title="Schedule")
    warmup: float = Field(0.05, ge=0, lt=1, title="Warm-up", description="share of all steps")
    final: float = Field(0.01, ge=0, le=1, title="Final rate", description="share of the peak rate at the last step")
