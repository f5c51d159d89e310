"""Softmax regression and the multilayer perceptron: pixels in a row, no idea of a picture.

The perceptron is Rumelhart, Hinton and Williams, https://doi.org/10.1038/323533a0; without a hidden layer it is softmax
regression (Cox 1958), whose loss is convex and which therefore starts at zero. Any size of picture is taken as it is.
The hidden weights start so that sums keep unit variance through the chosen activation, as in
https://proceedings.mlr.press/v9/glorot10a.html.
"""

import math

from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.config_classic import Activation, MLPConfig
from models.zoo.initial import classifier

# B batch, C channels, H height, W width, K classes

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}
GAINS: dict[Activation, float] = {
    "linear": 1.0,
    "relu": math.sqrt(2),  # half of the signal is cut away
    "leaky_relu": math.sqrt(2),
    "sigmoid": 4.0,  # its slope is at most a quarter
    "tanh": 5 / 3,
    "gelu": math.sqrt(2),
}


class MLP(nn.Module):
    """Normalised pictures (B, C, H, W) -> logits (B, K)."""

    def __init__(self, config: MLPConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        inputs = image.channels * image.height * image.width
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            hidden = nn.Linear(inputs, config.width)
            nn.init.normal_(hidden.weight, std=GAINS[config.activation] / math.sqrt(inputs))
            nn.init.zeros_(hidden.bias)
            layers += [hidden, ACTIVATIONS[config.activation](), nn.Dropout(config.dropout)]
            inputs = config.width
        self.hidden = nn.Sequential(*layers)
        self.head = classifier(inputs, num_classes)
        if not config.depth:
            nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden(x.flatten(1))  # (B, C * H * W) -> (B, width)
        logits: Tensor = self.head(x)
        return logits
