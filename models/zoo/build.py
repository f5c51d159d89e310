"""A model's configuration -> the network: uint8 pictures in, logits out."""

from typing import assert_never

from torch import nn

from data.spec import ImageSpec
from models.pixels import Pixels
from models.records import PixelStatistics
from models.zoo.alexnet import AlexNet
from models.zoo.cnn import CNN
from models.zoo.config import CNNConfig, ModelConfig, ViTConfig
from models.zoo.config_classic import (
    AlexNetConfig,
    LeNetConfig,
    LSTMConfig,
    MLPConfig,
    ResNetConfig,
    SoftmaxConfig,
    STNConfig,
    VGGConfig,
)
from models.zoo.lenet import LeNet
from models.zoo.lstm import LSTM
from models.zoo.mlp import MLP
from models.zoo.resnet import ResNet
from models.zoo.stn import STN
from models.zoo.vgg import VGG
from models.zoo.vit import ViT


def build(config: ModelConfig, image: ImageSpec, statistics: PixelStatistics, num_classes: int) -> nn.Module:
    """uint8 (B, H, W, C) -> logits (B, num_classes). Weights are drawn from torch's global generator: seed it before.

    Raises `InputError` where the model cannot look at such a picture.
    """
    match config:
        case CNNConfig():
            net: nn.Module = CNN(config, image, num_classes)
        case ViTConfig():
            net = ViT(config, image, num_classes)
        case SoftmaxConfig():
            net = MLP(MLPConfig(depth=0), image, num_classes)
        case MLPConfig():
            net = MLP(config, image, num_classes)
        case LeNetConfig():
            net = LeNet(image, num_classes)
        case AlexNetConfig():
            net = AlexNet(config, image, num_classes)
        case VGGConfig():
            net = VGG(config, image, num_classes)
        case ResNetConfig():
            net = ResNet(config, image, num_classes)
        case STNConfig():
            net = STN(config, image, num_classes)
        case LSTMConfig():
            net = LSTM(config, image, num_classes)
        case _:
            assert_never(config)
    return nn.Sequential(Pixels(image, statistics), net)
