"""Pictures that are nearly the same: saved again, scaled, a little cut, brightened, or mirrored.

Found by the perceptual hash of imagehash (https://github.com/JohannesBuchner/imagehash, BSD), 64 bits of the coarse
structure of the grey picture at 32 x 32, and then confirmed on the pixels. A flat picture has a hash, but no structure:
it is near to none. From `SMALLEST` pixels on: smaller ones are stretched before they are hashed, and all their detail
is what the hash calls coarse, so that two digits of one class are as near as two copies.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data.gate import measuring
from data.gate.within import pairs_within
from data.progress import Progress
from data.shards.stream import Streamed

SMALLEST = 32  # pixels of the shorter side, which imagehash's 32 x 32 then need not make up
FLAT = 2.0  # of 255: the standard deviation of grey below which there is no structure, only noise
SIDE = 16  # pixels of the pictures that are compared
PAIRS_AT_ONCE = 512
PAIRS_IN_A_PASS = 32 * PAIRS_AT_ONCE  # through shards, of each of which what is in these pairs is read at once: 180 MB
CUTS = (
    (0.025, 0.025, 0.95),
    *((left, top, 0.9) for left, top in ((0.05, 0.05), (0, 0), (0.1, 0), (0, 0.1), (0.1, 0.1))),
)
"""Left, top and side, as shares, of the part that a cut leaves: the middle 95 %, and 90 % in the middle and corners."""


@dataclass(frozen=True)
class Hashes:
    """Of M pictures."""

    plain: np.ndarray  # (M,) uint64
    mirrored: np.ndarray  # (M,) uint64, of the picture mirrored left to right
    flat: np.ndarray  # (M,) bool: the hash says nothing


@dataclass(frozen=True)
class Pairs:
    """P pairs of rows, the lower first, each once. Of several pictures with one and the same hash, each is paired with
    the next of them alone; `groups` puts them together all the same."""

    rows: np.ndarray  # (P, 2) int64
    mirrored: np.ndarray  # (P,) bool: one is near to the other's mirror image
    bits: np.ndarray  # (P,) uint8: in how many of 64 the hashes differ
    alike: np.ndarray  # (P,) float32: see `likeness`
    complete: bool  # False where there were more than could be kept

    def least(self, threshold: float) -> "Pairs":
        """Those that are at least as alike."""
        kept = self.alike >= threshold
        return Pairs(self.rows[kept], self.mirrored[kept], self.bits[kept], self.alike[kept], self.complete)


def hashes(pixels: np.ndarray, *, progress: Progress | None = None) -> Hashes:
    """Of pictures uint8 (M, H, W, C), C 1 or 3, a memory map or not. Raises `ModuleNotFoundError` without imagehash."""
    if not len(pixels):
        return Hashes(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, bool))
    values = measuring.each(pixels, hashes_of, "hashes", progress=progress)
    return Hashes(values[:, 0], values[:, 1], values[:, 2].astype(bool))


def hashes_of(pixels: np.ndarray) -> np.ndarray:
    """Pictures uint8 (n, H, W, C) -> (n, 3) uint64: the hash, that of the mirrored picture, 1 where flat."""
    import imagehash  # with scipy, so not before there is something to measure
    from PIL import Image, ImageStat

    values = np.empty((len(pixels), 3), np.uint64)
    for row, picture in enumerate(pixels):
        grey = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("L")
        mirrored = grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        bits = np.stack([imagehash.phash(image).hash.ravel() for image in (grey, mirrored)])
        values[row, :2] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
        values[row, 2] = ImageStat.Stat(grey).stddev[0] < FLAT
    return values


def bits_for(num: int) -> int:
    """In how many bits hashes of `num` pictures may differ, so that all pairs are found within minutes.

    The more, the smaller is the part that a copy may lack; what is no copy the pixels tell.
    """
    return 14 if num <= 20_000 else 10 if num <= 200_000 else 6


def pairs(pixels: np.ndarray, hashed: Hashes, *, bits: int | None = None, mirror: bool = True) -> Pairs:
    """All pairs whose hashes differ in at most `bits` of 64 (None: `bits_for`), and how alike their pixels are.

    pixels: (M, H, W, C), as they were hashed. mirror: also those that are near to a mirror image of another; not where
    a mirrored picture changes its class. There are none below `SMALLEST` pixels.
    """
    if not len(pixels) or min(pixels.shape[1:3]) < SMALLEST:
        none = np.zeros(0)
        return Pairs(none.reshape(0, 2).astype(np.int64), none.astype(bool), none.astype(np.uint8), none, complete=True)
    usable = np.flatnonzero(~hashed.flat)
    num = len(usable)
    both = np.concatenate([hashed.plain[usable], hashed.mirrored[usable]]) if mirror else hashed.plain[usable]
    found, complete = pairs_within(both, bits_for(len(pixels)) if bits is None else bits)
    found = found[(found[:, 0] < num) & (found[:, 0] != found[:, 1] - num)]  # not both mirrored, not with oneself
    turned = found[:, 1] >= num
    rows = np.sort(usable[found % max(num, 1)], axis=1)
    once = _first_of_each(rows, turned)
    rows, turned, found = rows[once], turned[once], found[once]
    differ = np.bitwise_count(both[found[:, 0]] ^ both[found[:, 1]])
    return Pairs(rows, turned, differ, likeness(pixels, rows, turned), complete)


def _first_of_each(rows: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Which of the pairs to keep: each once, in order, and as it is rather than mirrored."""
    order = np.lexsort((turned, rows[:, 1], rows[:, 0]))
    fresh = np.ones(len(order), bool)
    fresh[1:] = (rows[order][1:] != rows[order][:-1]).any(axis=1)
    kept: np.ndarray = order[fresh]
    return kept


def likeness(pixels: np.ndarray, rows: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """(P,) float32: the correlation, -1 to 1, of the pictures of each pair of rows (P, 2), scaled to `SIDE` x `SIDE`.

    The best of it: as they are, or one of them cut as `CUTS` has it. Each colour has its mean taken off, so light,
    contrast and tint do not matter; a flat picture is like none (0).
    """
    alike = np.zeros(len(rows), np.float32)
    step = PAIRS_IN_A_PASS if isinstance(pixels, Streamed) else PAIRS_AT_ONCE
    for start in range(0, len(rows), step):
        distinct, where = np.unique(rows[start : start + step], return_inverse=True)
        small, where = _small(pixels, distinct), where.reshape(-1, 2)
        for first in range(0, len(where), PAIRS_AT_ONCE):
            some = slice(start + first, start + min(first + PAIRS_AT_ONCE, len(where)))
            alike[some] = _alike(small, where[first : first + PAIRS_AT_ONCE], mirrored[some])
    return alike


def _alike(small: np.ndarray, pairs: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """(n,) float32, of pairs (n, 2) of the pictures `small`, as `_small` has them."""
    used, where = np.unique(pairs, return_inverse=True)
    left, right = _views(small[used])[where.reshape(pairs.shape)].swapaxes(0, 1)  # (n, V, SIDE, SIDE, C) each
    right[mirrored] = right[mirrored, :, :, ::-1]  # a cut at the left is then one at the right, which is among CUTS too
    found = [np.einsum("nhwc,nvhwc->nv", one[:, 0], other) for one, other in ((left, right), (right, left))]
    best: np.ndarray = np.concatenate(found, axis=1).max(axis=1)
    return best


def _views(small: np.ndarray) -> np.ndarray:
    """float32, of the same shape; each without the mean of its colours and of length 1, or all 0 where flat."""
    views = small.astype(np.float32)
    views -= views.mean(axis=(2, 3), keepdims=True)
    length = np.sqrt((views**2).sum(axis=(2, 3, 4), keepdims=True))
    flat = length < FLAT * np.sqrt(SIDE * SIDE * views.shape[-1])
    return np.where(flat, 0, views / np.where(flat, 1, length))


def _small(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, V, SIDE, SIDE, C) uint8: the whole picture first, then its `CUTS`."""
    from PIL import Image

    (height, width, channels), boxes = pixels.shape[1:], ((0.0, 0.0, 1.0), *CUTS)
    small = np.empty((len(rows), len(boxes), SIDE, SIDE, channels), np.uint8)
    for place, picture in _pictures(pixels, rows):
        image = Image.fromarray(picture[..., 0] if channels == 1 else picture)
        for view, (left, top, kept) in enumerate(boxes):
            box = (left * width, top * height, (left + kept) * width, (top + kept) * height)
            seen = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
            small[place, view] = seen.reshape(SIDE, SIDE, channels)
    return small


def _pictures(pixels: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(place among the rows, picture); out of shards in the order in which they lie."""
    if not isinstance(pixels, Streamed):
        yield from ((place, pixels[row]) for place, row in enumerate(rows.tolist()))
        return
    for places, some in pixels.lying(measuring.CHUNK, rows):
        yield from zip(places.tolist(), some, strict=True)


def groups(rows: np.ndarray, num: int) -> list[np.ndarray]:
    """Pairs of rows (P, 2) of `num` pictures -> the rows of each group of two or more, ascending, largest first: what
    is near to the same picture is together."""
    if not len(rows):
        return []
    leader = np.arange(num)  # of each row, the first row that it is known to be together with
    while len(apart := rows[leader[rows[:, 0]] != leader[rows[:, 1]]]):
        np.minimum.at(leader, leader[apart].max(axis=1), leader[apart].min(axis=1))
        while (leader != leader[leader]).any():
            leader = leader[leader]
    linked = np.unique(rows)  # the others are each alone
    order = linked[np.argsort(leader[linked], kind="stable")]
    together = np.split(order, np.flatnonzero(np.diff(leader[order])) + 1)
    return sorted((one for one in together if len(one) > 1), key=len, reverse=True)


if __name__ == "__main__":
    measuring.work(hashes_of)
