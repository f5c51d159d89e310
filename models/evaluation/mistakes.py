"""The wrong answers worth looking at, and small pictures of them. No torch here."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.preprocess import read_header, to_pixels
from data.spec import ImageSpec


@dataclass(frozen=True)
class Mistake:
    """One wrong answer; `position` counts the rows that were scored."""

    position: int
    true: int  # class index
    predicted: int
    probability: float  # of the wrong answer


def most_confident(probabilities: np.ndarray, labels: np.ndarray, *, limit: int = 24) -> tuple[Mistake, ...]:
    """The wrong answers given with the highest probability, surest first; probabilities (N, K), labels (N,)."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:limit]
    return tuple(
        Mistake(int(i), int(labels[i]), int(predicted[i]), float(probabilities[i, predicted[i]])) for i in surest
    )


def thumbnail(file: Path, image: ImageSpec, *, side: int = 160) -> bytes:
    """JPEG bytes of what the network is shown of this file, framed alike, but as sharp as `side` pixels allow.

    A picture much smaller than that is enlarged by a whole factor, so that its pixels can be seen.
    Raises `UnreadableImage`.
    """
    from PIL import Image

    header = read_header(file)
    own = max(header.height, header.width) / max(image.stored_height, image.stored_width)
    scale = min(side / max(image.height, image.width), own)  # no sharper than the file itself
    pixels = to_pixels(file, _scaled(image, scale))
    picture = Image.fromarray(pixels[..., 0] if image.channels == 1 else pixels)
    factor = side // max(picture.size)
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=80, optimize=True)
    return out.getvalue()


def _scaled(image: ImageSpec, scale: float) -> ImageSpec:
    return ImageSpec(
        height=max(1, round(image.height * scale)),
        width=max(1, round(image.width * scale)),
        channels=image.channels,
        margin=round(image.margin * scale),
        fit=image.fit,
    )
