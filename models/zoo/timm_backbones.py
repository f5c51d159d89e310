"""What is timm's way: names, options and loading. timm is an optional extra and takes many seconds to import."""

import importlib
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

    Raises what timm raises: RuntimeError for tensors that do not fit, and errors of the network.
    """
    found = published(name)
    overlay: dict[str, Any] = {}
    if tensors is not None:
        heads = (found.classifier,) if isinstance(found.classifier, str) else found.classifier or ("",)
        rows = tensors.get(
            f"{heads[0]}.weight"
        )  # a file may be of other classes; timm is strict if the number is right
        overlay = {"state_dict": dict(tensors), "num_classes": found.num_classes if rows is None else len(rows)}
    classes = overlay.get("num_classes", found.num_classes)
    net = create(name, num_classes=classes, side=side, pretrained=True, pretrained_cfg_overlay=overlay)
    return dict(net.state_dict())
