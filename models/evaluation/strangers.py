"""Pictures that no class is shown on, made up or borrowed, to see whether a model tells them from its own.

They are far from anything that it learned: who tells these from its own pictures may still be taken in by a picture of
a class that it has not heard of.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from data.images import Images
from data.preprocess import centre
from data.spec import ImageSpec

MOST = 128  # of each kind
PATCHES = 4  # a side
DIGITS = frozenset("0123456789")

Make = Callable[[Images, np.ndarray, np.random.Generator], np.ndarray]
"""Test rows of a data set -> uint8 (n, H, W, C), what a network would be shown."""


def made(images: Images, test: np.ndarray) -> dict[str, np.ndarray]:
    """Of each kind as many as there are test pictures, at most `MOST`; always the same ones."""
    kinds = dict(KINDS)
    if DIGITS.issuperset(images.classes):
        del kinds["handwritten digits"]  # no strangers there
    rows = np.random.default_rng(0).permutation(test)[:MOST]
    return {name: make(images, rows, np.random.default_rng(0)) for name, make in kinds.items()}


def _shape(images: Images, rows: np.ndarray) -> tuple[int, int, int, int]:
    return len(rows), images.spec.height, images.spec.width, images.spec.channels


def _noise(images: Images, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, _shape(images, rows), dtype=np.uint8)


def _flat(images: Images, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, height, width, channels = _shape(images, rows)
    return np.tile(rng.integers(0, 256, (n, 1, 1, channels), dtype=np.uint8), (1, height, width, 1))


def _shuffled(images: Images, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Test pictures cut into patches, which keep colour and texture and lose what is shown; what is over stays."""
    pictures = np.ascontiguousarray(centre(images.pixels[np.sort(rows)], images.spec))
    height, width = (side // PATCHES for side in pictures.shape[1:3])
    places = [(i * height, j * width) for i in range(PATCHES) for j in range(PATCHES)]
    for picture in pictures:
        whole = picture.copy()
        for (y, x), k in zip(places, rng.permutation(len(places)), strict=True):
            v, u = places[k]
            picture[y : y + height, x : x + width] = whole[v : v + height, u : u + width]
    return pictures


def _digits(images: Images, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """scikit-learn's, white on black."""
    from sklearn.datasets import load_digits

    drawn = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    return np.stack([_sized(drawn[i], images.spec) for i in rng.choice(len(drawn), len(rows))])


def _building(images: Images, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pieces of 128 x 128 pixels of a photograph that comes with scikit-learn."""
    from sklearn.datasets import load_sample_image

    photograph, side = load_sample_image("china.jpg"), 128
    places = rng.integers(0, np.array(photograph.shape[:2]) - side, (len(rows), 2))
    return np.stack([_sized(photograph[y : y + side, x : x + side], images.spec) for y, x in places])


def _sized(picture: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """(h, w) or (h, w, 3) -> (H, W, C)."""
    mode = "L" if spec.channels == 1 else "RGB"
    drawn = Image.fromarray(picture).convert(mode).resize((spec.width, spec.height), Image.Resampling.BILINEAR)
    return np.asarray(drawn).reshape(spec.height, spec.width, spec.channels)


KINDS: dict[str, Make] = {
    "noise": _noise,
    "flat colours": _flat,
    "test pictures in shuffled patches": _shuffled,
    "handwritten digits": _digits,
    "pieces of a photograph of a temple": _building,
}
