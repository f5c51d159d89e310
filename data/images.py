"""Decoded pictures: one memory-mapped uint8 file per fingerprint and geometry."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.snapshot import Snapshot
from data.spec import ImageSpec


@dataclass(frozen=True)
class Unreadable:
    file: str
    reason: str


@dataclass(frozen=True)
class Images:
    """The readable pictures of a snapshot, M <= N rows in the snapshot's order."""

    snapshot: Snapshot
    spec: ImageSpec
    rows: np.ndarray  # (M,) int64: which rows of the snapshot these are
    pixels: np.ndarray  # (M, stored_height, stored_width, C) uint8, read-only memory map
    unreadable: tuple[Unreadable, ...]

    @property
    def labels(self) -> np.ndarray:
        """(M,) int64."""
        return self.snapshot.labels[self.rows]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.snapshot.classes

    def path(self, row: int) -> Path:
        """The picture's file; `row` counts readable pictures."""
        return self.snapshot.path(int(self.rows[row]))

    def digest(self, row: int) -> str:
        return self.snapshot.digests[int(self.rows[row])]
