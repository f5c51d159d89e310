"""The one geometry: image bytes -> uint8 pixels, for ingestion, golden samples and the service alike."""

from typing import Any

from data.spec import ImageSpec


def centre(pixels: Any, spec: ImageSpec) -> Any:
    """What the network sees of stored pictures: (..., stored_height, stored_width, C) -> (..., height, width, C).

    A view; numpy arrays and torch tensors alike.
    """
    margin = spec.margin
    return pixels[..., margin : margin + spec.height, margin : margin + spec.width, :]
