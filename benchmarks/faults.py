"""Faults that are planted into a folder of pictures, so that it is known what the gate ought to find."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFilter, ImageOps

QUALITY = 95  # of the JPEG that a change is saved as, unless that is the change
STOPS = 3  # of overexposure: the light is 2 ** 3 times as much
GAMMA = 4.0  # of a picture that is too dark
SQUEEZED = 0.3  # of the width
LARGER = 5
BLUR = 3 / 96  # of the shorter side: 3 pixels of 96, one of 32

Change = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Planted:
    file: str  # relative to the folder
    kind: str
    original: str  # of a copy; the file itself where that was changed


def _as_is(image: Image.Image) -> Image.Image:
    return image


def _cut(image: Image.Image) -> Image.Image:
    """90 % of either side, from anywhere, at the size of before."""
    where = random.Random(image.tobytes())
    return _part(image, where.uniform(0, 0.1), where.uniform(0, 0.1))


def _middle(image: Image.Image) -> Image.Image:
    return _part(image, 0.05, 0.05)


def _part(image: Image.Image, left: float, top: float) -> Image.Image:
    width, height = image.size
    box = (left * width, top * height, (left + 0.9) * width, (top + 0.9) * height)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def _mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _by(curve: Callable[[float], float]) -> Change:
    """Every value 0 to 1 by a curve, clipped."""
    table = [round(255 * min(1.0, max(0.0, curve(value / 255)))) for value in range(256)]
    return lambda image: image.point(table * len(image.getbands()))


def _exposed(value: float) -> float:
    """sRGB (IEC 61966-2-1) to light, times 2 ** STOPS, and back."""
    light = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4) * 2**STOPS
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def _one_colour(image: Image.Image) -> Image.Image:
    return image.resize((1, 1), Image.Resampling.BOX).resize(image.size)


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(BLUR * min(image.size)))


def _squeezed(image: Image.Image) -> Image.Image:
    return image.resize((max(1, round(SQUEEZED * image.width)), image.height), Image.Resampling.BICUBIC)


def _larger(image: Image.Image) -> Image.Image:
    return image.resize((LARGER * image.width, LARGER * image.height), Image.Resampling.BICUBIC)


COPIES: dict[str, tuple[Change, int]] = {
    "saved again, quality 75": (_as_is, 75),
    "cut to 90 % in the middle": (_middle, QUALITY),
    "cut to 90 % anywhere": (_cut, QUALITY),
    "brighter by 10 %": (_by(lambda value: 1.1 * value), QUALITY),
    "mirrored": (_mirrored, QUALITY),
}
"""Put beside the original. Kind -> the change, and the quality it is saved with."""

FAULTS: dict[str, tuple[str, Change]] = {
    "black": ("dark", _by(lambda value: 0.0)),  # noqa: ARG005
    "dark, gamma 4": ("dark", _by(lambda value: value**GAMMA)),
    "overexposed by 3 stops": ("light", _by(_exposed)),
    "one colour": ("blank", _one_colour),
    "blurred, 3 pixels of 96": ("blurred", _blurred),
    "squeezed to 30 % width": ("odd_aspect", _squeezed),
    "5 times the size": ("odd_size", _larger),
}
"""Put in place of the original. Kind -> the rule that ought to find it, and the change."""


def plant(root: Path, files: Sequence[str], *, share: float, seed: int) -> list[Planted]:
    """Changes and copies `share` of the files for each kind; no file serves two kinds. Writes below `root`."""
    drawn = iter(random.Random(seed).sample(sorted(files), len(files)))
    each, planted = round(share * len(files)), []
    for kind, (change, quality) in COPIES.items():
        for file in (next(drawn) for _ in range(each)):
            copy = Path(file).with_name("-".join([Path(file).stem, *re.findall(r"\w+", kind)]) + ".jpg").as_posix()
            change(_opened(root / file)).save(root / copy, "JPEG", quality=quality)
            planted.append(Planted(copy, kind, file))
    for kind, (_, change) in FAULTS.items():
        for file in (next(drawn) for _ in range(each)):
            change(_opened(root / file)).save(root / file, "JPEG", quality=QUALITY)
            planted.append(Planted(file, kind, file))
    return planted


def _opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
