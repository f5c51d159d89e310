"""A Compact Convolutional Transformer, https://arxiv.org/abs/2104.05704: convolutions make the tokens, and a learned
weighted mean of them is classified. Convolutions know what is near from the start, which a plain ViT learns from many
pictures: the Transformer for small data.

CCT-7/3x1 of the paper is dim 256, depth 7, heads 4, convolutions 1 at 32 x 32. Departures: smaller by default, and with
two convolutions at 32 x 32, as its CCT-7/3x2, so that 64 tokens and not 256 are mixed; a batch norm behind each
convolution, and behind the first of several a further one that keeps the shape, after the stems of
https://arxiv.org/abs/2106.14881, with which it learns faster; positions start as sines; without the paper's extra norm
within a block and dropout of attention weights; where more than two halvings are needed, the first convolution has a
stride of 2, for its work on a large picture would outweigh the rest.
"""

from torch import Tensor, nn

from data.spec import ImageSpec
from models.zoo.config_transformer import ConvViTConfig
from models.zoo.transformer import Transformer

# B batch, C channels, D width of a token, K classes

TOKENS_PER_SIDE = 15  # at most, by default: 8 at 32, 64 and 128 pixels, 12 at 96, 14 at 28 and 224
MANY_HALVINGS = 3


class ConvViT(nn.Module):
    """Normalised pictures (B, C, height, width) -> logits (B, K)."""

    def __init__(self, config: ConvViTConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        rows, columns = image.height, image.width
        channels: int = image.channels
        steps = plan(max(rows, columns), config.convolutions)
        for step, (stride, pool) in enumerate(steps, start=1):
            wider = config.dim if step == len(steps) else config.channels
            layers += convolution(channels, wider, kernel=config.kernel, stride=stride)
            if pool:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            if step == 1 < len(steps):
                layers += convolution(wider, wider, kernel=config.kernel)
            for _ in range((stride == 2) + pool):
                rows, columns = (rows + 1) // 2, (columns + 1) // 2
            channels = wider
        self.tokenizer = nn.Sequential(*layers)
        self.transformer = Transformer(config, rows, columns, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.transformer(self.tokenizer(x))  # from (B, D, rows, columns)
        return logits


def convolution(in_channels: int, out_channels: int, *, kernel: int, stride: int = 1) -> list[nn.Module]:
    """(B, C, H, W) -> (B, C', H / stride, W / stride), none negative."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight)
    return [layer, nn.BatchNorm2d(out_channels), nn.ReLU()]


def plan(side: int, convolutions: int | None) -> list[tuple[int, bool]]:
    """(stride, whether it is pooled to half) of each convolution, for a picture whose longer side is this."""
    if convolutions is not None:
        return [(1, True)] * convolutions
    halvings = 0
    while side > TOKENS_PER_SIDE:
        side, halvings = (side + 1) // 2, halvings + 1
    if halvings >= MANY_HALVINGS:
        return [(2, True)] + [(1, True)] * (halvings - 2)
    return [(1, True)] * halvings or [(1, False)]
