"""A published backbone with a new head (why: https://arxiv.org/abs/1411.1792); `PretrainedConfig` says how much learns.

Building it fetches nothing: the weights are filled in by `load_published` before training, and come from the run
folder ever after. What is frozen stays as published to the last bit: its weights get no gradient, and its norms and
dropout are in eval mode also while the rest trains.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from data.errors import InputError
from data.spec import ImageSpec
from models.records import PixelStatistics
from models.zoo import timm_backbones, weights
from models.zoo.adapter import adapt, adapters
from models.zoo.backbones import bare_network, is_file, known_name, published, refused_size, require_weights
from models.zoo.config_pretrained import PretrainedConfig

# B batch, H height, W width, K classes

ADAPTED = ".parametrizations.{}.original"  # where torch keeps a weight that has an adapter


class Pretrained(nn.Module):
    """Normalised pictures (B, 3, H, W) -> logits (B, K)."""

    def __init__(self, config: PretrainedConfig, image: ImageSpec, num_classes: int) -> None:
        super().__init__()
        if image.height != image.width:
            raise InputError(
                f"published backbones look at squares, and the pictures are {image.height} x {image.width}"
            )
        self.config, self.image, self.num_classes = config, image, num_classes
        self.net = bare_network(config, image, num_classes)
        self.head_name = head_name(self.net, num_classes, config.backbone)
        check_size(self.net, config, image, num_classes)
        restart(self.head)
        if config.tune == "adapter":
            adapt(self.net, rank=config.rank, leave_out=self.head)
        if config.tune != "full":
            self.net.requires_grad_(False)
            for learning in (self.head, *adapters(self.net)):
                learning.requires_grad_(True)

    @property
    def head(self) -> nn.Module:
        return self.net.get_submodule(self.head_name)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.tune != "full":
            self.net.eval()  # or batch norm would learn statistics, and dropout hide features
        return self

    def rate_shares(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Weights that learn at a share of the rate; the head learns at all of it."""
        head = {id(weight) for weight in self.head.parameters()}
        for weight in self.net.parameters():
            if weight.requires_grad and id(weight) not in head:
                yield weight, self.config.rate_share

    def load_published(self) -> None:
        """Fill in the published weights, or those of a file, in place; the head keeps its own. Raises `InputError`."""
        own = self.state_dict()
        for name, tensor in plain_weights(self.config, self.image, self.num_classes).items():
            if not name.startswith(f"{self.head_name}."):
                stem, _, leaf = f"net.{name}".rpartition(".")
                adapted = stem + ADAPTED.format(leaf)
                own[adapted if adapted in own else f"{stem}.{leaf}"].copy_(tensor)


def load_into(net: nn.Module) -> None:
    """Wherever in `net` a backbone is."""
    for module in net.modules():
        if isinstance(module, Pretrained):
            module.load_published()


def normalisation(config: PretrainedConfig) -> PixelStatistics:
    """Of the published weights, for three channels. Raises `InputError` for an unknown backbone."""
    return published(config).statistics


def plain_weights(config: PretrainedConfig, image: ImageSpec, num_classes: int) -> dict[str, Tensor]:
    """Of the library's network, by its names; the head may be missing. Fetched if need be. Raises `InputError`."""
    require_weights(config)
    given = is_file(config)
    file = Path(config.weights).expanduser() if given and config.weights is not None else None
    if timm_backbones.is_theirs(config.backbone):
        return timm_weights(config, image, file)
    file = file or weights.fetch(published(config).url)
    told = f"{'model.weights ' if given else ''}{file} does not fit model.backbone {config.backbone}"
    tensors = weights.read(file)
    twin = bare_network(config, image, num_classes)
    head = head_name(twin, num_classes, config.backbone)
    return weights.fitted(twin, tensors, head=head, side=image.height, told=told)


def timm_weights(config: PretrainedConfig, image: ImageSpec, file: Path | None) -> dict[str, Tensor]:
    """timm fetches and fits by itself; a file is read here, so that it cannot run code."""
    name, tensors = known_name(config.backbone), None if file is None else weights.read(file)
    try:
        return timm_backbones.loaded(name, side=image.height, tensors=tensors)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a tensor of any shape may break timm's filters, and a network its client
        reason = reason_of(error)
        if file is not None:
            raise InputError(
                f"model.weights {file} does not fit model.backbone {config.backbone}: {reason}; "
                "give the weights of that backbone, or name the backbone they are of"
            ) from None
        raise InputError(
            f"timm could not load the weights of {config.backbone} ({reason}); check the network and run again, or "
            f"fetch {published(config).url} elsewhere and give the file with --model.weights"
        ) from None


def reason_of(error: Exception) -> str:
    """Its last line, of which the first sentence."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    return line.partition(". ")[0].rstrip(".")[:200]


def head_name(net: nn.Module, num_classes: int, backbone: str) -> str:
    """The last layer, which answers for the classes: linear, or a 1 x 1 convolution in SqueezeNet."""
    last: nn.Linear | nn.Conv2d | None = None
    name = ""
    for path, layer in net.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            name, last = path, layer
    if last is None or len(last.weight) != num_classes:
        raise InputError(f"model.backbone {backbone} does not end in a layer of classes; use another backbone")
    return name


def restart(head: nn.Module) -> None:
    """The first guess is close to uniform, with any backbone: loss ln(K)."""
    nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]
    if head.bias is not None:
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]


@torch.no_grad()
def check_size(net: nn.Module, config: PretrainedConfig, image: ImageSpec, num_classes: int) -> None:
    """Look at one black picture, since each backbone has bounds of its own. Raises `InputError`."""
    training = net.training
    try:
        answer = net.eval()(torch.zeros(1, 3, image.height, image.width))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise refused_size(config, image, error) from None
    net.train(training)
    if tuple(answer.shape) != (1, num_classes):
        raise refused_size(config, image, ValueError(f"it answers with a shape of {tuple(answer.shape)}"))
