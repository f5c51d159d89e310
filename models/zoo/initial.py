"""Weights before the first step, where a paper's own are not followed."""

from torch import nn


def he(net: nn.Module) -> None:
    """Signals keep their size from layer to layer through ReLUs: https://arxiv.org/abs/1502.01852."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def classifier(width: int, num_classes: int) -> nn.Linear:
    """(B, width) -> logits (B, K). The first guess is close to uniform, loss ln(K), also where 4,096 features come
    unnormalised out of three poolings for the largest, as in AlexNet."""
    layer = nn.Linear(width, num_classes)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer
