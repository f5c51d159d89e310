"""Which example is trained on, chosen by, and tested on."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Sorted, disjoint rows of an `Images`."""

    train: np.ndarray  # int64
    val: np.ndarray
    test: np.ndarray

    @property
    def development(self) -> np.ndarray:
        """Train and validation rows: what cross-validation may see."""
        return np.sort(np.concatenate([self.train, self.val]))


@dataclass(frozen=True)
class Fold:
    train: np.ndarray
    val: np.ndarray
