"""A picture file as a person sees it: turned as it says, at its own shape."""

from pathlib import Path
from typing import Literal

from PIL import Image

from data.preprocess import read_header, to_pixels
from data.spec import ImageSpec
from data.turned import on_its_side


def upright(file: Path, *, largest: int, channels: Literal[1, 3] | None = None) -> Image.Image:
    """Neither side above `largest`; grey or colour as the file is, where `channels` does not say. Raises
    `UnreadableImage`."""
    header = read_header(file)
    width, height = (header.height, header.width) if on_its_side(file) else (header.width, header.height)
    shrink = min(1.0, largest / max(width, height))
    spec = ImageSpec(
        height=max(1, round(height * shrink)),
        width=max(1, round(width * shrink)),
        channels=channels or (1 if header.grey else 3),
        fit="stretch",
    )
    pixels = to_pixels(file, spec)
    return Image.fromarray(pixels[..., 0] if spec.channels == 1 else pixels)
