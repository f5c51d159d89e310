"""The classifiers of torchvision and timm by name: the network without weights, and what was published with them.

torchvision is imported where it is needed: it takes seconds, and most runs do without.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from data.errors import InputError
from data.spec import ImageSpec
from models.records import PixelStatistics
from models.zoo import timm_backbones
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.weights import unreadable

SIDE_IN_NAME = {"vit": "image_size", "maxvit": "input_size"}  # torchvision's argument where the size is built in
# These two shift their input themselves, from the statistics of the others to their own; their side heads are unused.
GOOGLE = {"aux_logits": False, "transform_input": True, "init_weights": False}


@dataclass(frozen=True)
class Published:
    """What comes with a backbone's weights."""

    statistics: PixelStatistics
    side: int  # of the pictures, in pixels
    url: str  # of the file


def published(config: PretrainedConfig) -> Published:
    """Raises `InputError` for a backbone that is not known, or of timm, which is not installed."""
    if timm_backbones.is_theirs(config.backbone):
        found = timm_backbones.published(known_name(config.backbone))
        return Published(_statistics(found.mean, found.std), int(found.input_size[-1]), timm_backbones.url(found))
    from torchvision.models import get_model_weights

    known = get_model_weights(known_name(config.backbone))
    weights = known.DEFAULT if config.weights is None or is_file(config) else known[config.weights]
    seen = weights.transforms()
    return Published(_statistics(seen.mean, seen.std), int(seen.crop_size[0]), weights.url)


def is_file(config: PretrainedConfig) -> bool:
    """`weights` is a path, not one of torchvision's names."""
    if config.weights is None or timm_backbones.is_theirs(config.backbone):
        return config.weights is not None
    from torchvision.models import get_model_weights

    return config.weights not in get_model_weights(known_name(config.backbone)).__members__


def require_weights(config: PretrainedConfig) -> None:
    """Raises `InputError` for what is neither a file nor a name that torchvision gives to published weights."""
    given = config.weights
    try:
        if given is None or not is_file(config) or Path(given).expanduser().is_file():
            return
    except (OSError, RuntimeError) as error:  # a folder that this user may not look into; a home that nobody has
        raise unreadable(str(given), error) from None
    if timm_backbones.is_theirs(config.backbone) or "/" in given or Path(given).suffix:
        raise InputError(f"model.weights {given} is not a file; give a .safetensors or .pth file, or none")
    from torchvision.models import get_model_weights

    known = list(get_model_weights(known_name(config.backbone)).__members__)
    near = difflib.get_close_matches(given.upper(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(
        f"model.weights {given!r} is no file, and not known for model.backbone {config.backbone}; {hint}use one of "
        f"{', '.join(known)}, a .safetensors or .pth file, or none"
    )


def bare_network(config: PretrainedConfig, image: ImageSpec, num_classes: int) -> nn.Module:
    """The library's network, its weights drawn at random: (B, 3, H, W) -> logits (B, K). Raises `InputError`."""
    name = known_name(config.backbone)
    if timm_backbones.is_theirs(config.backbone):
        make: Callable[..., nn.Module] = timm_backbones.create
        options: dict[str, Any] = {"side": image.height}
    else:
        from torchvision.models import get_model

        make, options = get_model, {"weights": None, **_torchvision_options(name, image.height)}
    try:
        return make(name, num_classes=num_classes, **options)
    except (AssertionError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise refused_size(config, image, error) from None


def refused_size(config: PretrainedConfig, image: ImageSpec, error: Exception) -> InputError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return InputError(
        f"model.backbone {config.backbone} cannot look at a {image.height} x {image.width} picture ({reason}); "
        f"use dataset.size {published(config).side}, for which it was published, or another backbone"
    )


def known_name(backbone: str) -> str:
    """The library's own name. Raises `InputError` with the nearest ones for another."""
    if timm_backbones.is_theirs(backbone):
        name, known = timm_backbones.name_of(backbone), timm_backbones.known_names()
        if not timm_backbones.is_known(name):
            raise _unknown(backbone, known, "leave out timm/ for one of torchvision")
        return name
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if backbone.lower() not in known:
        raise _unknown(backbone, known, "for one of timm write timm/ before it")
    return backbone.lower()


def _torchvision_options(name: str, side: int) -> dict[str, Any]:
    if name in ("googlenet", "inception_v3"):
        return dict(GOOGLE)
    match SIDE_IN_NAME.get(name.partition("_")[0]):
        case "image_size":
            return {"image_size": side}
        case "input_size":
            return {"input_size": (side, side)}
        case _:
            return {}


def _unknown(backbone: str, known: Sequence[str], elsewhere: str) -> InputError:
    near = difflib.get_close_matches(backbone.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"use one such as {', '.join(known[:3])}"
    return InputError(f"model.backbone {backbone!r} is not known; {hint} ({elsewhere})")


def _statistics(mean: Sequence[float], std: Sequence[float]) -> PixelStatistics:
    return PixelStatistics(mean=tuple(mean), std=tuple(std))
