"""What a person may choose about training: frozen values that refuse what they do not know. No torch here."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from annotated_types import Gt, Le
from pydantic import Field, model_validator

from data.spec import AugmentConfig, DatasetSpec, Frozen
from models.evaluation.config import AnswerConfig as AnswerConfig
from models.evaluation.config import DiagnoseConfig as DiagnoseConfig
from models.evaluation.config import ExportConfig as ExportConfig
from models.evaluation.config import ReleaseConfig as ReleaseConfig
from models.training.config import (
    CosineConfig,
    CrossEntropyConfig,
    LossConfig,
    MuonConfig,
    OptimizerConfig,
    PlateauConfig,
    ScheduleConfig,
)
from models.zoo.config import CNNConfig, ModelConfig
from models.zoo.config_pretrained import MAX_SIZE, PretrainedConfig


class TrainConfig(Frozen):
    """The training loop."""

    seed: int = Field(0, ge=0, lt=2**31, title="Seed", description="same seed, same weights (on a CPU)")
    epochs: int | None = Field(
        None,
        gt=0,
        le=10_000,
        title="Epochs",
        description="upper bound, early stopping may end sooner; by default what 3,600 steps take, from 20 to 120",
    )
    batch_size: Annotated[int, Gt(0), Le(65_536)] | Literal["auto"] | None = Field(
        None,
        title="Batch size",
        description="pictures in a step; by default 64, or all of a small set; auto: doubled from 64 while a CUDA GPU "
        "has room, up to a twentieth of the pictures, or halved until it has, and 64 elsewhere; the rate stays as it "
        "is; where memory runs short later, one device begins again with half; several end and say how many to use",
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural",
        title="Sampling",
        description="natural: every picture once an epoch; balanced: as many pictures, of every class equally many",
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=1024,
        title="Accumulate",
        description="parts that a batch goes through the network in, to save memory",
    )
    patience: Annotated[int, Gt(0)] | Literal["never"] | None = Field(
        None,
        title="Patience",
        description="epochs without improvement before stopping; by default a third of all, and on a plateau at least "
        "twice as many as before the rate falls; never: all epochs are trained",
    )
    monitor: Literal["val_loss", "val_accuracy"] = Field(
        "val_accuracy", title="Monitor", description="what early stopping watches; its best weights are kept"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", title="Precision", description="auto: bfloat16 where the processor multiplies in it"
    )
    devices: Literal["auto", "cpu", "cuda", "mps"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto",
        title="Devices",
        description="auto: a GPU if there is one; a number: as many of them, each with its share of every batch",
    )
    max_minutes: float | None = Field(
        None,
        gt=0,
        title="Minutes",
        description="every training's, a fold's too: epochs and schedule are fitted into them, by the speed so far; "
        "epochs stays the upper bound, so give a large one if the minutes shall decide",
    )
    checkpoint_every: int | None = Field(
        None,
        gt=0,
        title="Checkpoints",
        description="steps between them; by default every 30 seconds, and at the end of an epoch",
    )
    loss: LossConfig = Field(default_factory=CrossEntropyConfig)
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, title="Label smoothing", description="share of a target that is spread over all classes"
    )
    clip_norm: float | None = Field(
        1.0, gt=0, title="Gradient clipping", description="largest norm of the gradient; none for no clipping"
    )
    ema: float | None = Field(
        0.997,
        gt=0,
        lt=1,
        title="EMA",
        description="decay of an exponential average of the weights, which is then used; none for no average",
    )

    @model_validator(mode="after")
    def _patience_can_fire(self) -> Self:
        if isinstance(self.patience, int) and self.epochs is not None and self.patience >= self.epochs:
            raise ValueError(
                f"patience {self.patience} can never end a run of {self.epochs} epochs; "
                f"use less than {self.epochs}, or never, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _balanced_once(self) -> Self:
        if self.sampling == "balanced" and self.loss.class_weights is not None:
            raise ValueError(
                f"sampling balanced and loss.class_weights {self.loss.class_weights} would both make up for rare "
                "classes; use one of them"
            )
        return self


class CrossvalConfig(Frozen):
    """Stratified k-fold cross-validation, before the final training."""

    folds: int = Field(0, ge=0, le=20, title="Folds", description="0 for none, otherwise at least 2")

    @model_validator(mode="after")
    def _not_one(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds 1 leaves nothing to train on; use 0 for none, or at least 2")
        return self


class Experiment(Frozen):
    """Everything that decides a run: the Prefect form, the CLI flags, the YAML file and the JSON in the card."""

    name: str = Field(
        "custom", pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$", title="Name", description="of this experiment"
    )
    dataset: DatasetSpec = Field(default_factory=DatasetSpec, title="Data")
    model: ModelConfig = Field(default_factory=CNNConfig)
    optimizer: OptimizerConfig = Field(default_factory=MuonConfig)
    schedule: ScheduleConfig = Field(default_factory=CosineConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig, title="Augmentation")
    train: TrainConfig = Field(default_factory=TrainConfig, title="Training")
    crossval: CrossvalConfig = Field(default_factory=CrossvalConfig, title="Cross-validation")
    answer: AnswerConfig = Field(default_factory=AnswerConfig, title="Answers")
    export: ExportConfig = Field(default_factory=ExportConfig, title="Export")
    release: ReleaseConfig = Field(default_factory=ReleaseConfig, title="Release")
    diagnose: DiagnoseConfig = Field(default_factory=DiagnoseConfig, title="Diagnosis")

    @model_validator(mode="after")
    def _plateau_can_be_seen(self) -> Self:
        stop = self.train.patience
        if isinstance(self.schedule, PlateauConfig) and isinstance(stop, int) and self.schedule.patience >= stop:
            raise ValueError(
                f"schedule.patience {self.schedule.patience} can never lower the rate before train.patience {stop} "
                "ends the run; make it the smaller of the two"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_doubted_in_time(self) -> Self:
        if self.dataset.gate.labels.level == "stop" and not self.crossval.folds:
            raise ValueError(
                "dataset.gate.labels.level stop needs networks that were not trained on the pictures, before the final "
                "training; set crossval.folds to 3 or more, or the level to warn"
            )
        return self

    @model_validator(mode="after")
    def _folds_know_no_time(self) -> Self:
        if self.crossval.folds and self.dataset.split_by == "time":
            raise ValueError(
                f"crossval.folds {self.crossval.folds} would train on newer pictures than it asks about, which "
                "dataset.split_by time forbids; set crossval.folds to 0, or split by group"
            )
        return self

    @model_validator(mode="after")
    def _finite(self) -> Self:
        for path, value in leaves(self.model_dump()):
            numbers = [n for n in (value if isinstance(value, tuple) else (value,)) if isinstance(n, float)]
            if not all(map(math.isfinite, numbers)):
                raise ValueError(f"{path} is {value}; it should be a finite number")
        return self

    @property
    def pictures(self) -> DatasetSpec:
        """`dataset`, with what it leaves open and the model knows: a published backbone wants larger pictures."""
        if self.dataset.max_size is None and isinstance(self.model, PretrainedConfig):
            return self.dataset.model_copy(update={"max_size": MAX_SIZE})
        return self.dataset


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("train.epochs", 20) and so on."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
