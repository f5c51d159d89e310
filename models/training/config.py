"""Which optimiser, which course of its rate and which loss: one frozen value per kind. No torch here."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import Field, field_validator, model_validator

from data.spec import Frozen

Share = Annotated[float, Ge(0), Lt(1)]

Rate = Annotated[
    Annotated[float, Gt(0)] | Literal["auto"],
    Field(title="Learning rate", description="peak, reached after the warm-up; auto: by a range test before training"),
]
Decay = Annotated[
    float, Field(ge=0, title="Weight decay", description="of kernels and matrices; not of biases, norms, positions")
]
L2 = Annotated[
    float,
    Field(ge=0, title="Weight decay", description="as part of the gradient; not of biases, norms, positions"),
]
Betas = Annotated[
    tuple[Share, Share], Field(title="Betas", description="decay of the averages of the gradient and its square")
]


class AdamWConfig(Frozen):
    """AdamW, https://arxiv.org/abs/1711.05101."""

    kind: Literal["adamw"] = "adamw"
    lr: Rate = 2e-3
    weight_decay: Decay = 0.05
    betas: Betas = (0.9, 0.999)


class SGDConfig(Frozen):
    """SGD with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: Rate = 0.1
    weight_decay: L2 = 5e-4
    momentum: float = Field(0.9, ge=0, lt=1, title="Momentum", description="0 for none")
    nesterov: bool = Field(True, title="Nesterov", description="look-ahead momentum")


class MuonConfig(Frozen):
    """Muon for the weights inside the network, AdamW for the rest, https://arxiv.org/abs/2502.16982."""

    kind: Literal["muon"] = "muon"
    lr: Rate = 2e-3
    weight_decay: Decay = 0.2
    momentum: float = Field(0.9, ge=0, lt=1, title="Momentum", description="of the orthogonal updates")
    betas: Betas = (0.9, 0.999)
    normalize: bool = Field(
        False,
        title="Normalize",
        description="keep the size of Muon's kernels, so that the rate is the share of them that a step changes; only "
        "for networks with a batch norm after each of them",
    )
    rest: float = Field(
        1.0, gt=0, title="Rate of the rest", description="share of the learning rate for all that AdamW trains"
    )


class AdamConfig(Frozen):
    """Adam, https://arxiv.org/abs/1412.6980."""

    kind: Literal["adam"] = "adam"
    lr: Rate = 2e-3
    weight_decay: L2 = 0.0
    betas: Betas = (0.9, 0.999)


class RMSpropConfig(Frozen):
    """RMSprop: the gradient over the root of the average of its square (Hinton's lecture 6e)."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: Rate = 1e-3
    weight_decay: L2 = 0.0
    alpha: Share = Field(0.99, title="Alpha", description="decay of the average of the squared gradient")
    momentum: float = Field(0.0, ge=0, lt=1, title="Momentum", description="0 for none")


class AdagradConfig(Frozen):
    """Adagrad: the gradient over the root of the sum of its squares, https://jmlr.org/papers/v12/duchi11a.html."""

    kind: Literal["adagrad"] = "adagrad"
    lr: Rate = 0.01
    weight_decay: L2 = 0.0


class AdadeltaConfig(Frozen):
    """Adadelta: the step takes its unit from the steps before, https://arxiv.org/abs/1212.5701."""

    kind: Literal["adadelta"] = "adadelta"
    lr: Rate = 1.0
    weight_decay: L2 = 0.0
    rho: Share = Field(0.9, title="Rho", description="decay of the averages of squared gradients and steps")


OptimizerConfig = Annotated[
    AdamWConfig | SGDConfig | MuonConfig | AdamConfig | RMSpropConfig | AdagradConfig | AdadeltaConfig,
    Field(discriminator="kind", title="Optimizer"),
]

Warmup = Annotated[
    float, Field(ge=0, lt=1, title="Warm-up", description="share of all steps in which the rate rises to its peak")
]
Final = Annotated[float, Field(ge=0, le=1, title="Final rate", description="share of the peak rate at the last step")]


class CosineConfig(Frozen):
    """Half a cosine from the peak to the final rate, https://arxiv.org/abs/1608.03983."""

    kind: Literal["cosine"] = "cosine"
    warmup: Warmup = 0.05
    final: Final = 0.01


class ConstantConfig(Frozen):
    """The peak rate until the end."""

    kind: Literal["constant"] = "constant"
    warmup: Warmup = 0.05

    @model_validator(mode="before")
    @classmethod
    def _old_files(cls, given: Any) -> Any:
        """Files of the first release carry a final rate here, which never meant anything."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if name != "final"}
        return given


class LinearConfig(Frozen):
    """A straight line from the peak to the final rate."""

    kind: Literal["linear"] = "linear"
    warmup: Warmup = 0.05
    final: Final = 0.0


class StepConfig(Frozen):
    """The rate is multiplied by gamma at each milestone."""

    kind: Literal["step"] = "step"
    warmup: Warmup = 0.05
    milestones: tuple[Annotated[float, Gt(0), Lt(1)], ...] = Field(
        (0.5, 0.75), min_length=1, title="Milestones", description="shares of the steps after the warm-up, rising"
    )
    gamma: float = Field(0.1, gt=0, lt=1, title="Gamma", description="what the rate is multiplied by")

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if any(after <= before for before, after in pairwise(milestones)):
            raise ValueError(f"milestones {milestones} do not rise; write them in order, such as 0.5,0.75")
        return milestones


class OneCycleConfig(Frozen):
    """Up by half a cosine, then down by half a cosine, https://arxiv.org/abs/1708.07120; momentum stays."""

    kind: Literal["one-cycle"] = "one-cycle"
    warmup: Warmup = 0.3
    start: float = Field(0.04, gt=0, le=1, title="First rate", description="share of the peak rate at the first step")
    final: Final = 1e-3


class PlateauConfig(Frozen):
    """The rate is multiplied by gamma whenever the monitored figure has not improved for some epochs."""

    kind: Literal["plateau"] = "plateau"
    warmup: Warmup = 0.05
    patience: int = Field(3, ge=1, title="Patience", description="epochs without improvement before the rate falls")
    gamma: float = Field(0.3, gt=0, lt=1, title="Gamma", description="what the rate is multiplied by")
    final: float = Field(1e-3, ge=0, le=1, title="Lowest rate", description="share of the peak rate")


ScheduleConfig = Annotated[
    CosineConfig | ConstantConfig | LinearConfig | StepConfig | OneCycleConfig | PlateauConfig,
    Field(discriminator="kind", title="Schedule"),
]

ClassWeights = Annotated[
    Literal["balanced"] | None,
    Field(
        title="Class weights",
        description="balanced: pictures of a rare class count as much in all as those of a frequent one",
    ),
]


class CrossEntropyConfig(Frozen):
    """Cross-entropy between the classes."""

    kind: Literal["cross-entropy"] = "cross-entropy"
    class_weights: ClassWeights = None


class FocalConfig(Frozen):
    """Cross-entropy that looks away from what is already right, https://arxiv.org/abs/1708.02002."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0, le=10, title="Gamma", description="how far it looks away; 0 for cross-entropy")
    class_weights: ClassWeights = None


class BinaryConfig(Frozen):
    """Binary cross-entropy of each class by itself, https://arxiv.org/abs/2110.00476."""

    kind: Literal["binary"] = "binary"
    class_weights: ClassWeights = None


LossConfig = Annotated[
    CrossEntropyConfig | FocalConfig | BinaryConfig,
    Field(discriminator="kind", title="Loss"),
]
