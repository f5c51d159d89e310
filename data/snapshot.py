"""Which examples there are: an immutable listing with content digests, and its fingerprint."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.spec import Part


@dataclass(frozen=True)
class Snapshot:
    """N examples, ordered by (class, digest, file), so that the order depends on content before names."""

    name: str
    root: Path
    classes: tuple[str, ...]  # natural order, decided once from the whole listing
    files: tuple[str, ...]  # (N,) relative to root, posix
    labels: np.ndarray  # (N,) int64, index into classes
    digests: tuple[str, ...]  # (N,) sha256 of the bytes, hex
    sizes: np.ndarray  # (N,) int64, bytes
    parts: tuple[Part | None, ...]  # (N,) what the source's own folders say; None where they say nothing
    mirror: bool  # False where a mirrored picture changes its class (digits)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over classes, digests, labels and parts: content, not paths."""
        raise NotImplementedError

    def path(self, row: int) -> Path:
        return self.root / self.files[row]
