"""The classic networks and their options: one frozen value per kind. No torch here."""

from typing import Literal

from pydantic import Field

from data.spec import Frozen
from models.zoo.config_depth import SkipRate

Activation = Literal["linear", "relu", "leaky_relu", "sigmoid", "tanh", "gelu"]


class SoftmaxConfig(Frozen):
    """Softmax regression: one linear layer on the pixels."""

    kind: Literal["softmax"] = "softmax"


class MLPConfig(Frozen):
    """A perceptron with 0, 1 or 2 hidden layers on the pixels."""

    kind: Literal["mlp"] = "mlp"
    depth: int = Field(1, ge=0, le=2, title="Depth", description="hidden layers")
    width: int = Field(256, ge=1, le=8192, title="Width", description="units in each hidden layer")
    activation: Activation = Field("relu", title="Activation", description="after each hidden layer")
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", description="after each hidden layer")


class LeNetConfig(Frozen):
    """LeNet-5 of 1998."""

    kind: Literal["lenet"] = "lenet"


class AlexNetConfig(Frozen):
    """AlexNet, its one-column form of 2014."""

    kind: Literal["alexnet"] = "alexnet"
    width: int = Field(64, ge=4, le=256, title="Width", description="channels of the first convolution")
    hidden: int | None = Field(
        None,
        ge=1,
        le=8192,
        title="Hidden width",
        description="of the two fully connected layers; by default 4,096, or 512 for pictures under 128 pixels a side",
    )
    dropout: float = Field(0.5, ge=0, lt=1, title="Dropout", description="before the fully connected layers")


class VGGConfig(Frozen):
    """VGG, with batch norm."""

    kind: Literal["vgg"] = "vgg"
    layers: Literal[11, 13, 16, 19] = Field(16, title="Layers", description="that have weights")
    width: int = Field(64, ge=4, le=256, title="Width", description="channels of the first stage")
    hidden: int | None = Field(
        None,
        ge=1,
        le=8192,
        title="Hidden width",
        description="of the two fully connected layers; by default 4,096, or 512 for pictures under 128 pixels a side",
    )
    batch_norm: bool = Field(True, title="Batch norm", description="after each convolution; the paper had none")
    dropout: float = Field(0.5, ge=0, lt=1, title="Dropout", description="after the fully connected layers")


class ResNetConfig(Frozen):
    """ResNet."""

    kind: Literal["resnet"] = "resnet"
    layers: Literal[18, 34, 50] = Field(18, title="Layers", description="that have weights; 50 has bottlenecks")
    width: int = Field(64, ge=4, le=256, title="Width", description="channels of the first stage; doubles each stage")
    stochastic_depth: SkipRate = 0.0


class STNConfig(Frozen):
    """A Spatial Transformer in front of the small residual network."""

    kind: Literal["stn"] = "stn"
    width: int = Field(32, ge=8, le=512, title="Width", description="of the residual network's first stage")


class LSTMConfig(Frozen):
    """An LSTM that reads the picture row by row."""

    kind: Literal["lstm"] = "lstm"
    width: int = Field(128, ge=1, le=2048, title="Width", description="of the state")
    depth: int = Field(1, ge=1, le=4, title="Depth", description="LSTM layers, one reading the other's states")
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", description="before the classifier")


ClassicConfig = (
    SoftmaxConfig | MLPConfig | LeNetConfig | AlexNetConfig | VGGConfig | ResNetConfig | STNConfig | LSTMConfig
)
