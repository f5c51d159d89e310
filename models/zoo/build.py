"""A model's configuration -> the network: uint8 pictures in, logits out."""

from typing import assert_never

from torch import nn

from data.spec import ImageSpec
from models.pixels import Pixels
from models.records import PixelStatistics
from models.zoo.cnn import CNN
from models.zoo.config import CNNConfig, ModelConfig
from models.zoo.config_transformer import ConvViTConfig, ViTConfig
from models.zoo.conv_vit import ConvViT
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
        case ConvViTConfig():
            net = ConvViT(config, image, num_classes)
        case _:
            assert_never(config)
    return nn.Sequential(Pixels(image, statistics), net)
