"""Pictures that a graph in fewer bits is made with, chosen by and judged by: rows of a data set, as it sees them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data.images import Images
from data.preprocess import centre
from data.split import Split
from models.bundle.timing import Predict

CALIBRATING = 256  # training pictures
CHOOSING = 1024  # validation pictures; twelve ways to quantize are tried on them
AT_ONCE = 32  # pictures


@dataclass(frozen=True)
class Shown:
    """N pictures."""

    images: Images
    rows: np.ndarray  # (N,) of `images`

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        labels: np.ndarray = self.images.labels[self.rows]
        return labels

    def batches(self, most: int = AT_ONCE) -> Iterator[np.ndarray]:
        """uint8 (n, H, W, C), n <= most."""
        for first in range(0, len(self.rows), most):
            chosen = self.images.pixels[self.rows[first : first + most]]
            yield np.ascontiguousarray(centre(chosen, self.images.spec))

    def answers(self, predict: Predict) -> np.ndarray:
        """(N, K) float32."""
        return np.concatenate([predict(pixels) for pixels in self.batches()])


@dataclass(frozen=True)
class Sight:
    calibration: Shown
    validation: Shown
    test: Shown


def sight(images: Images, split: Split) -> Sight:
    """Of the parts of a split: some of the first two, balanced by class, always the same ones."""
    return Sight(
        calibration=Shown(images, balanced(images.labels, split.train, CALIBRATING)),
        validation=Shown(images, balanced(images.labels, split.val, CHOOSING)),
        test=Shown(images, split.test),
    )


def balanced(labels: np.ndarray, rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of `rows`, of every class as many as of any other while it has some."""
    drawn = np.random.default_rng(0).permutation(rows)
    rank = np.empty(len(drawn), dtype=np.int64)  # how many of the same class come before
    for k in np.unique(labels[drawn]):
        of_class = np.flatnonzero(labels[drawn] == k)
        rank[of_class] = np.arange(len(of_class))
    chosen: np.ndarray = drawn[np.argsort(rank, kind="stable")[:most]]
    return chosen
