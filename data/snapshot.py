"""Which examples there are: an immutable listing with content digests, and its fingerprint."""

import hashlib
import json
import operator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data import digests, layout
from data import progress as progress_
from data.gate.quarantine import NOTHING, Decisions
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
    relabelled: int = 0  # of them in another class than their folder's, by a person's decision
    dropped: tuple[str, ...] = ()  # sorted digests of the rows that the gate or a person took out of their part

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over classes, digests, labels and parts, and what was dropped: content, not paths."""
        rows = zip(self.labels.tolist(), self.digests, (part or "" for part in self.parts), strict=True)
        said = [self.classes, sorted(rows), *([self.dropped] if self.dropped else [])]  # as ever where nothing was
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def path(self, row: int) -> Path:
        return self.root / self.files[row]


def take(
    root: Path,
    name: str,
    mirror: bool = True,
    *,
    home: Path,
    anew: bool = False,
    decisions: Decisions = NOTHING,
    progress: Progress | None = None,
) -> Snapshot:
    """List and digest the pictures below `root`, which is not written to. Digests are remembered below `home`; `anew`
    reads every file again. What a person said of a picture's class counts, and not its folder.

    Raises `SourceError` for files that cannot be read and for folders that cannot be understood, `DataRefused` for a
    decision on a class that there is not.
    """
    listing = layout.read(root)
    files = [picture.file for picture in listing.pictures]
    found, sizes = digests.of_files(root, files, home, anew=anew, progress=progress or progress_.ignore)
    stated = [picture.label for picture in listing.pictures]
    labels = decisions.relabelled(found, stated)
    classes = tuple(sorted(set(labels), key=layout.natural))
    number = {name: i for i, name in enumerate(classes)}
    rows = sorted(
        (number[label], digest, picture.file, size, picture.part)
        for picture, label, digest, size in zip(listing.pictures, labels, found, sizes, strict=True)
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
        relabelled=sum(map(operator.ne, labels, stated)),
    )
