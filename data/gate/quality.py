"""What is wrong with a picture by its looks: too dark, too light, without content, blurred, of an odd size or shape.

Measures and scales are cleanvision's (https://github.com/cleanlab/cleanvision, Apache-2.0), but that of blur: 0 is bad,
1 is good, and a threshold is what a score may not be below. They are taken of the stored pixels, so no picture is
decoded again: of what the network will see (where `dataset.fit` crops, of what is kept). Size and shape are those of
the file, from its header.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from data.gate import measuring
from data.gate.sharpness import sharpness
from data.preprocess import read_header
from data.progress import Progress

# Ours -> cleanvision's name.
ISSUES = {"dark": "dark", "light": "light", "blank": "low_information"}
LOOKS = (*ISSUES, "blurred")


def looks(
    pixels: np.ndarray, issues: Sequence[str] = LOOKS, *, progress: Progress | None = None
) -> dict[str, np.ndarray]:
    """`dark`, `light`, `blank`, `blurred` -> score of each picture (M,) float32, 0 to 1, the worse the lower.

    issues: those of them that are wanted. pixels: uint8 (M, H, W, C), C 1 or 3, as `Images.pixels` has them. Raises
    `ModuleNotFoundError` without cleanvision.

    dark: the 99th percentile of brightness. light: 1 less its 5th. blank: the entropy of the pixels' values, in tenths
    of a bit. blurred: how fine the edges are (`sharpness`).
    """
    if not len(pixels):
        return {name: np.zeros(0, np.float32) for name in issues}
    scores = measuring.each(pixels, scores_of, "looks", *issues, progress=progress)
    return {name: scores[:, column] for column, name in enumerate(issues)}


def scores_of(pixels: np.ndarray, *issues: str) -> np.ndarray:
    """Pictures uint8 (n, H, W, C) -> (n, issues) float32, in their order."""
    found = _by_cleanvision(pixels, [issue for issue in issues if issue in ISSUES])
    if "blurred" in issues:
        found["blurred"] = sharpness(pixels)
    return np.stack([found[issue] for issue in issues], axis=1)


def _by_cleanvision(pixels: np.ndarray, issues: Sequence[str]) -> dict[str, np.ndarray]:
    if not issues:
        return {}
    import pandas as pd  # type: ignore[import-untyped]  # with cleanvision seconds: not before it is needed
    from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager
    from PIL import Image

    manager = ImagePropertyIssueManager()
    properties = {issue: manager.image_properties[ISSUES[issue]] for issue in issues}
    distinct = {one.name: one for one in properties.values()}  # dark and light are one measurement
    measured = []
    for picture in pixels:
        image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
        measured.append({key: value for one in distinct.values() for key, value in one.calculate(image).items()})
    raw = pd.DataFrame(measured)
    found = {}
    for issue, one in properties.items():
        theirs = ISSUES[issue]
        scores = one.get_scores(raw_scores=raw, issue_type=theirs, **manager.params[theirs])
        found[issue] = scores[f"{theirs}_score"].to_numpy(np.float32)
    return found


def sizes(files: Iterable[bytes | Path]) -> np.ndarray:
    """(M, 2) int32, width and height of each file as stored. Headers are read, nothing is decoded.

    Raises `UnreadableImage` for a file that has changed since it was decoded.
    """
    headers = (read_header(file) for file in files)
    sides = chain.from_iterable((header.width, header.height) for header in headers)
    return np.fromiter(sides, np.int32).reshape(-1, 2)


def aspects(sizes: np.ndarray) -> np.ndarray:
    """(M,) float32: the shorter side over the longer one, of sizes (M, 2); a square's is 1."""
    ratios: np.ndarray = (sizes.min(axis=1) / sizes.max(axis=1)).astype(np.float32)
    return ratios


def odd_sizes(sizes: np.ndarray, *, iqrs: float) -> tuple[np.ndarray, np.ndarray]:
    """(rows, worst first; score of every picture (M,) float32), of sizes (M, 2).

    A size is the square root of width times height. Odd is one that lies more than `iqrs` times the distance between
    the quartiles outside them; where that distance is 0, any size but the usual one. As cleanvision's `SizeProperty`
    has it, whose import takes a second, and these lines a few milliseconds each time a data set is opened.
    """
    if not len(sizes):
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    size = np.sqrt(sizes.astype(np.float64).prod(axis=1))
    first, third = np.percentile(size, [25, 75])
    least, most = first - iqrs * (third - first), third + iqrs * (third - first)
    middle, between = (least + most) / 2, most - least
    scores = 1 - np.clip(np.abs(size - middle) / (between or middle), 0, 1)
    rows = np.flatnonzero(scores < (0.5 if between else 1))
    return rows[np.argsort(scores[rows], kind="stable")], scores.astype(np.float32)


def below(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Rows whose score (M,) is below the threshold, worst first."""
    rows = np.flatnonzero(scores < threshold)
    return rows[np.argsort(scores[rows], kind="stable")]


if __name__ == "__main__":
    measuring.work(scores_of)
