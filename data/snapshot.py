"""Which examples there are: an immutable listing with content digests, and its fingerprint."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data import digests, layout
from data import progress as progress_
from data.progress import Progress
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
    ignored: tuple[str, ...] = ()  # files that are no examples; class folders without a picture end with a slash

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over classes, digests, labels and parts: content, not paths."""
        rows = zip(self.labels.tolist(), self.digests, (part or "" for part in self.parts), strict=True)
        return hashlib.sha256(json.dumps([self.classes, sorted(rows)]).encode()).hexdigest()

    def path(self, row: int) -> Path:
        return self.root / self.files[row]


def take(
    root: Path, name: str, mirror: bool = True, *, home: Path, anew: bool = False, progress: Progress | None = None
) -> Snapshot:
    """List and digest the pictures below `root`, which is not written to. Digests are remembered below `home`; `anew`
    reads every file again.

    Raises `SourceError` for files that cannot be read and for folders that cannot be understood.
    """
    listing = layout.read(root)
    files = [picture.file for picture in listing.pictures]
    found, sizes = digests.of_files(root, files, home, anew=anew, progress=progress or progress_.ignore)
    classes = tuple(sorted({picture.label for picture in listing.pictures}, key=layout.natural))
    label = {name: i for i, name in enumerate(classes)}
    rows = sorted(
        (label[picture.label], digest, picture.file, size, picture.part)
        for picture, digest, size in zip(listing.pictures, found, sizes, strict=True)
    )
    return Snapshot(
        name=name,
        root=root,
        classes=classes,
        files=tuple(row[2] for row in rows),
        labels=np.array([row[0] for row in rows], dtype=np.int64),
        digests=tuple(row[1] for row in rows),
        sizes=np.array([row[3] for row in rows], dtype=np.int64),
        parts=tuple(row[4] for row in rows),
        mirror=mirror,
        ignored=listing.ignored,
    )
