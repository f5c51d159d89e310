"""A model's configuration -> the network: uint8 pictures in, logits out."""

from typing import assert_never

import numpy as np
from torch import nn

from data.augment import centre_view
from data.loader import Pictures, sent
from data.spec import ImageSpec
from models.pixels import Pixels
from models.records import PixelStatistics
from models.zoo.alexnet import AlexNet
from models.zoo.cnn import CNN
from models.zoo.config import CNNConfig, ModelConfig, WhitenedConfig
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
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.config_transformer import ConvViTConfig, ViTConfig
from models.zoo.conv_vit import ConvViT
from models.zoo.lenet import LeNet
from models.zoo.lstm import LSTM
from models.zoo.mlp import MLP
from models.zoo.pretrained import Pretrained, load_into, normalisation
from models.zoo.resnet import ResNet
from models.zoo.stn import STN
from models.zoo.vgg import VGG
from models.zoo.vit import ViT
from models.zoo.whitened import Whitened

LOOKED_AT = 1 << 21  # pixels: 2,048 pictures of 32 x 32


def build(config: ModelConfig, image: ImageSpec, statistics: PixelStatistics, num_classes: int) -> nn.Module:
    """uint8 (B, H, W, C) -> logits (B, num_classes). Weights are drawn from torch's global generator: seed it before.

    Raises `InputError` where the model cannot look at such a picture.
    """
    match config:
        case CNNConfig():
            net: nn.Module = CNN(config, image, num_classes)
        case WhitenedConfig():
            net = Whitened(config, image, num_classes)
        case ViTConfig():
            net = ViT(config, image, num_classes)
        case ConvViTConfig():
            net = ConvViT(config, image, num_classes)
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
        case PretrainedConfig():
            net = Pretrained(config, image, num_classes)
        case _:
            assert_never(config)
    return nn.Sequential(Pixels(image, statistics), net)


def any_size(config: ModelConfig) -> bool:
    """Whether the network built for pictures of one size also takes those of another."""
    return isinstance(config, CNNConfig | ResNetConfig)


def published_statistics(config: ModelConfig) -> PixelStatistics | None:
    """What the model's published weights were trained with; None where the training rows are measured."""
    return normalisation(config) if isinstance(config, PretrainedConfig) else None


def load_published(net: nn.Module) -> None:
    """What training starts from beside drawn weights: published ones, which may be fetched. Raises `InputError`.

    Not part of `build`, since a network that is built again takes its weights from a run folder or a checkpoint.
    """
    load_into(net)


def start_from(net: nn.Module, pictures: Pictures, rows: np.ndarray, image: ImageSpec) -> None:
    """What training starts from beside drawn weights: what a first layer takes from pictures. Hand in training rows.

    As `load_published`, not part of `build`; a function of the pictures alone, so the same in every process of a run.
    """
    pixels, network = net.children()
    if isinstance(network, Whitened):
        num = min(len(rows), max(1, LOOKED_AT // (image.height * image.width)))
        some = np.sort(rows)[np.linspace(0, len(rows) - 1, num).astype(np.int64)]
        network.whiten(pixels(centre_view(sent(pictures.gather(some), pictures.device), image)))
