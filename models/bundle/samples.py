"""Golden pictures made from real ones: each exercises a part of decoding that could differ somewhere else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.spec import ImageSpec
from data.turned import ORIENTATION
from data.upright import upright
from models.bundle.golden import Format, Kind

DIFFICULT = 4  # golden pictures that are made of plain ones, each of another
ENCODED = 3  # and those that are plain ones in another format
MOST_PLAIN = 10  # classes that the page offers a picture of
MAX_SIDE = 256  # a golden picture; the page shows it
MIN_SIDE = 24  # smaller ones are enlarged, so that cropping and turning leave something to see
TURNED_LEFT = 6  # stored a quarter turn to the left; a reader must turn it back


@dataclass(frozen=True)
class Picture:
    kind: Kind
    label: str
    file: bytes
    format: Format = "png"


def choose(labels: np.ndarray, rows: np.ndarray, *, fewest: int = DIFFICULT, most: int = MOST_PLAIN) -> list[int]:
    """One of `rows` for each class, within bounds; rows repeat only if there are too few."""
    count = min(max(len(np.unique(labels[rows])), fewest), most)
    seen: Counter[int] = Counter()
    rank = {}  # how many of the same class come before
    for row in map(int, rows):
        rank[row] = seen[int(labels[row])]
        seen[int(labels[row])] += 1
    firsts = sorted(rank, key=lambda row: rank[row])
    return [firsts[i % len(firsts)] for i in range(count)]


def make(sources: Sequence[tuple[Path, str]], image: ImageSpec) -> list[Picture]:
    """The sources (at least four files with their labels); four of them turned, with alpha, grey, and not square; three
    as JPEG, as progressive JPEG, and as WebP without loss."""
    plain = [(_open(path, image), label) for path, label in sources]
    pictures = [Picture("plain", label, _png(picture)) for picture, label in plain]
    (turned, rgba, grey, wide) = (plain[i] for i in range(DIFFICULT))
    return [
        *pictures,
        Picture("turned", turned[1], _turned(turned[0])),
        Picture("rgba", rgba[1], _png(_with_alpha(rgba[0]))),
        Picture("grey", grey[1], _png(grey[0].convert("L"))),
        Picture("wide", wide[1], _png(_cut(wide[0], image))),
        Picture("jpeg", turned[1], _saved(turned[0], "JPEG", quality=90), "jpg"),
        Picture("progressive", rgba[1], _saved(rgba[0], "JPEG", quality=90, progressive=True), "jpg"),
        Picture("webp", grey[1], _saved(grey[0], "WEBP", lossless=True), "webp"),
    ]


def _open(path: Path, image: ImageSpec) -> Image.Image:
    """Upright RGB at its own size, within limits, and never of the size the network takes."""
    picture = upright(path, largest=MAX_SIDE, channels=3)
    own_sizes = ((image.width, image.height), (image.stored_width, image.stored_height))
    if min(picture.size) < MIN_SIDE:
        picture = _enlarge(picture, -(-MIN_SIDE // min(picture.size)) + 1)
    if picture.size in own_sizes:
        picture = _enlarge(picture, 2)
    return picture


def _enlarge(picture: Image.Image, times: int) -> Image.Image:
    size = (picture.width * times, picture.height * times)
    return picture.resize(size, Image.Resampling.NEAREST)


def _turned(picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED_LEFT
    return _png(picture.transpose(Image.Transpose.ROTATE_90), exif=exif)


def _with_alpha(picture: Image.Image) -> Image.Image:
    """Fades towards the corners."""
    y = np.linspace(-1, 1, picture.height)[:, None]
    x = np.linspace(-1, 1, picture.width)[None, :]
    alpha = np.clip(1.6 - np.hypot(x, y), 0, 1) * 255
    faded = picture.copy()
    faded.putalpha(Image.fromarray(alpha.round().astype(np.uint8)))
    return faded


def _cut(picture: Image.Image, image: ImageSpec) -> Image.Image:
    """The middle three quarters, so that its shape is not the network's: cropping, padding and stretching differ."""
    width, height = picture.size
    if width * image.height < height * image.width:  # already narrower than the network's input
        left, top = width // 8, 0
    else:
        left, top = 0, height // 8
    return picture.crop((left, top, width - left, height - top))


def _png(picture: Image.Image, *, exif: Image.Exif | None = None) -> bytes:
    return _saved(picture, "PNG", optimize=True, exif=exif if exif is not None else Image.Exif())


def _saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, format=format, **options)
    return stream.getvalue()
