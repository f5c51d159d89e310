"""torchvision's ResNet-18, with a stem for small pictures (3 x 3 with stride 1, and no pooling) or as published."""

from torch import nn
from torchvision.models import resnet18

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10, on the 0..1 scale
PHOTOGRAPHS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of ImageNet
PADDING = 4  # pixels, of the random crop
SIDE = 32

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]


def resnet18_32(num_classes: int, stem: str = "small") -> nn.Module:
    """(B, 3, 32, 32) -> (B, num_classes)."""
    net = resnet18(num_classes=num_classes)
    if stem == "published":
        return net
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def resnet18_of(side: int, num_classes: int) -> nn.Module:
    """(B, 3, side, side) -> (B, num_classes)."""
    return resnet18_32(num_classes) if side == SIDE else resnet18(num_classes=num_classes)


def statistics(side: int) -> Statistics:
    """Mean and standard deviation of small pictures and of photographs."""
    return (MEAN, STD) if side == SIDE else PHOTOGRAPHS
