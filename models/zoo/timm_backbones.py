"""What is timm's way: names, options and loading. timm is an optional extra and takes many seconds to import."""

import importlib
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from data.errors import InputError

PREFIX = "timm/"
PAGE = "https://huggingface.co/{hub}/resolve/main/model.safetensors"


def timm() -> ModuleType:
    """Raises `InputError` where it is not installed."""
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError:
        raise InputError(
            "a model.backbone that begins with timm/ needs the package timm, which is not installed; "
            "install it with: pip install 'trainserve[timm]', or use a backbone of torchvision"
        ) from None


def is_theirs(backbone: str) -> bool:
    return backbone.startswith(PREFIX)


def name_of(backbone: str) -> str:
    """timm's name, with or without the tag of its weights: resnet18.a1_in1k."""
    return backbone.removeprefix(PREFIX)


def is_known(name: str) -> bool:
    tagged = bool(name.partition(".")[2])
    return bool(timm().is_model(name)) and (not tagged or name in timm().list_models(pretrained=True))


def known_names() -> list[str]:
    return [PREFIX + name for name in timm().list_models()]


def published(name: str) -> Any:
    """timm's record of the weights. Raises `InputError` where there are none."""
    found = timm().models.get_pretrained_cfg(name)
    if found is None or not found.has_weights:
        raise InputError(f"timm publishes no weights for {PREFIX}{name}; use another model.backbone")
    return found


def url(found: Any) -> str:
    return PAGE.format(hub=found.hf_hub_id) if found.hf_hub_id else str(found.url)


def create(name: str, *, num_classes: int, side: int, **options: Any) -> nn.Module:
    """For pictures of this side: some networks have it built in and an argument for it, the others take any."""
    make = timm().create_model
    try:
        net: nn.Module = make(name, num_classes=num_classes, img_size=side, **options)
    except TypeError:
        net = make(name, num_classes=num_classes, **options)
    return net


def loaded(name: str, *, side: int, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The published weights, or those of a file, fitted to pictures of this side, with timm's own head.

    A file may be of other classes, or lack the head. Raises what timm raises: RuntimeError for tensors that do not fit,
    errors of the network, and whatever its filters stumble over.
    """
    found = published(name)
    if tensors is None:
        return filled(name, side=side, classes=found.num_classes)
    heads = (found.classifier,) if isinstance(found.classifier, str) else tuple(found.classifier or ())
    rows = tensors.get(f"{heads[0]}.weight") if heads else None
    classes = len(rows) if rows is not None and rows.ndim else found.num_classes
    overlay = {"state_dict": dict(tensors), "num_classes": classes}
    try:
        return filled(name, side=side, classes=classes, overlay=overlay)
    except RuntimeError as error:
        if not lacks_only(heads, str(error)):
            raise
    return filled(name, side=side, classes=classes, overlay=overlay | {"num_classes": 0})


def filled(name: str, *, side: int, classes: int, overlay: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """timm is strict where the overlay's number of classes is the network's; otherwise it leaves the head as drawn, and
    so all that is missing."""
    net = create(name, num_classes=classes, side=side, pretrained=True, pretrained_cfg_overlay=dict(overlay or {}))
    return dict(net.state_dict())


def lacks_only(heads: tuple[str, ...], message: str) -> bool:
    """Whether torch, strict, found nothing amiss but that the tensors of heads are missing."""
    amiss = message.strip().splitlines()[1:]
    missing = re.findall(r'"([^"]+)"', amiss[0]) if amiss and amiss[0].strip().startswith("Missing key(s)") else []
    return len(amiss) == 1 and bool(missing) and all(key.rpartition(".")[0] in heads for key in missing)
