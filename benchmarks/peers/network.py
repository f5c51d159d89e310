"""torchvision's ResNet-18 with the stem for small pictures: 3 x 3 with stride 1, and no pooling."""

from torch import nn
from torchvision.models import resnet18

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10, on the 0..1 scale
PADDING = 4  # pixels, of the random crop
SIDE = 32


def resnet18_32(num_classes: int) -> nn.Module:
    """(B, 3, 32, 32) -> (B, num_classes)."""
    net = resnet18(num_classes=num_classes)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net
