"""A plain Vision Transformer, after https://arxiv.org/abs/2010.11929 and, for the mean of tokens, 2205.01580.

Departures: a narrow MLP, and a patch of about an eighth of the picture, so that any picture becomes some 64 tokens.
The kinds of attention are in `attention/`.
"""

import math

from torch import Tensor, nn

from data.errors import InputError
from data.spec import ImageSpec
from models.zoo.config_transformer import ViTConfig
from models.zoo.transformer import Transformer

# B batch, C channels, P side of a patch, D width of a token, K classes

TOKENS_PER_SIDE = 8
SMALLEST_PATCH = 2  # a single pixel says too little: a token should see an edge


class ViT(nn.Module):
    """Normalised pictures (B, C, height, width) -> logits (B, K)."""

    def __init__(self, config: ViTConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        patch = config.patch or choose_patch(image)
        check_patch(patch, image)
        self.patches = nn.Conv2d(image.channels, config.dim, patch, stride=patch)
        nn.init.normal_(self.patches.weight, std=self.patches.weight[0].numel() ** -0.5)  # after LeCun
        if self.patches.bias is not None:
            nn.init.zeros_(self.patches.bias)
        self.transformer = Transformer(config, image.height // patch, image.width // patch, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.transformer(self.patches(x))  # from (B, D, height/P, width/P)
        return logits


def choose_patch(image: ImageSpec) -> int:
    """The divisor of both sides that is nearest to an eighth of the shorter one; a pixel only if nothing else fits."""
    shorter = min(image.height, image.width)
    wanted = shorter / TOKENS_PER_SIDE
    fitting = [patch for patch in divisors(image) if SMALLEST_PATCH <= patch <= shorter // 2]
    return min(fitting or [1], key=lambda patch: abs(math.log(patch / wanted)))


def check_patch(patch: int, image: ImageSpec) -> None:
    """Raises `InputError`."""
    if image.height % patch or image.width % patch:
        choices = ", ".join(map(str, divisors(image)))
        raise InputError(
            f"model.patch {patch} does not divide a {image.height} x {image.width} picture; use one of {choices}"
        )


def divisors(image: ImageSpec) -> list[int]:
    """Of both sides."""
    side = math.gcd(image.height, image.width)
    return [patch for patch in range(1, side + 1) if side % patch == 0]
