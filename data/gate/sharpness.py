"""How sharp a picture is: how fine its edges are, whatever their strength.

Two measures of focus by the energies of the Laplacian and of the gradient (https://doi.org/10.1016/j.patcog.2012.11.011
compares them with others), one divided by the other: light and contrast cancel out, and what is left is the mean of the
Laplacian's symbol, 4 - 2 cos u - 2 cos v, over the spatial frequencies of the edges. Cleanvision's score is not used:
it is the spread of Pillow's FIND_EDGES, which copies the outermost pixels as they are (src/libImaging/Filter.c), so
that mostly the light of the frame is measured; and of the rest, the contrast.
"""

from collections.abc import Iterable

import numpy as np

SIDE = 32  # pixels of the shorter side at which it is measured, so that a blur is a share of the picture's size
LARGEST = 8.0  # of the Laplacian's symbol


def sharpness(pixels: Iterable[np.ndarray]) -> np.ndarray:
    """Pictures uint8 (H, W, C), C 1 or 3 -> (n,) float32: 0 is a slope of light, 1 a chessboard of single pixels.

    One colour has no edge that could be blurred, and 1.
    """
    return np.array([_of(_small(picture)) for picture in pixels], np.float32)


def _small(picture: np.ndarray) -> np.ndarray:
    """Grey, float64 (h, w)."""
    from PIL import Image

    grey = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("L")
    scale = SIDE / min(grey.size)
    if scale < 1:
        grey = grey.resize((round(scale * grey.width), round(scale * grey.height)), Image.Resampling.BOX)
    return np.asarray(grey, np.float64)


def _of(grey: np.ndarray) -> float:
    gradient = sum(float((np.diff(grey, axis=axis) ** 2).mean()) for axis in (0, 1) if grey.shape[axis] > 1)
    if min(grey.shape) < 3 or not gradient:
        return 1.0
    inner = grey[1:-1, 1:-1]
    laplacian = 4 * inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return min(1.0, float(np.sqrt((laplacian**2).mean() / gradient / LARGEST)))
