"""Which examples there are: an immutable listing with content digests, and its fingerprint."""

import hashlib
import json
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data import digests, layout
from data import progress as progress_
from data.gate.quarantine import NOTHING, Decisions
from data.layout import Listing
from data.progress import Progress
from data.shards.index import Index
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
    missing: tuple[str, ...] = ()  # files that a listing names and that are not there
    groups: tuple[str | None, ...] = ()  # (N,) what must not be in two parts; empty where no picture has one
    times: tuple[str | None, ...] = ()  # (N,) ISO 8601 in UTC; empty where no picture has one
    shards: Index | None = None  # where the pictures lie, if that is not in files

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over classes, digests, labels, parts, groups, times, what was dropped: content, not paths."""
        rows = zip(self.labels.tolist(), self.digests, (part or "" for part in self.parts), strict=True)
        said: list[object] = [self.classes, sorted(rows)]
        if self.dropped:  # as ever where nothing was; likewise below
            said.append(self.dropped)
        for name, found in (("groups", self.groups), ("times", self.times)):
            if found:
                said.append({name: sorted(zip(self.digests, (one or "" for one in found), strict=True))})
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def path(self, row: int) -> Path:
        return self.root / self.files[row] if self.shards is None else self.shards.path(self.files[row])

    def content(self, row: int) -> bytes | Path:
        """Its bytes, or its file where it has one."""
        return self.path(row) if self.shards is None else self.shards.content(self.files[row])


def take(
    root: Path,
    name: str,
    mirror: bool = True,
    *,
    home: Path,
    anew: bool = False,
    listings: Sequence[Listing] | None = None,
    decisions: Decisions = NOTHING,
    progress: Progress | None = None,
) -> Snapshot:
    """List and digest the pictures below `root`, or those of the `listings`. Digests are remembered below `home`;
    `anew` reads every file again. What a person decided of a class counts, and not its folder.

    Raises `SourceError` for what cannot be read or understood, `DataRefused` for a decision on a class there is not.
    """
    listings = [layout.read(root)] if listings is None else listings
    listing, found, sizes = _digested(listings, home, anew=anew, progress=progress or progress_.ignore)
    pictures = listing.pictures
    stated = [picture.label for picture in pictures]
    labels = decisions.relabelled(found, stated)
    number = {name: i for i, name in enumerate(sorted(set(labels), key=layout.natural))}
    order = sorted(range(len(pictures)), key=lambda i: (number[labels[i]], found[i], pictures[i].file))
    return Snapshot(
        name=name,
        root=listing.root,
        classes=tuple(number),
        files=tuple(pictures[i].file for i in order),
        labels=np.array([number[labels[i]] for i in order], dtype=np.int64),
        digests=tuple(found[i] for i in order),
        sizes=np.array([sizes[i] for i in order], dtype=np.int64),
        parts=tuple(pictures[i].part for i in order),
        mirror=mirror,
        groups=_if_any(pictures[i].group for i in order),
        times=_if_any(pictures[i].time for i in order),
        ignored=listing.ignored,
        missing=listing.missing,
        relabelled=sum(map(operator.ne, labels, stated)),
        shards=listing.shards,
    )


def _digested(
    listings: Sequence[Listing], home: Path, *, anew: bool, progress: Progress
) -> tuple[Listing, list[str], list[int]]:
    """All of them as one, with the pictures' digests and sizes; each listing's are remembered by themselves."""
    found: list[str] = []
    sizes: list[int] = []
    for one in listings:
        names = [picture.file for picture in one.pictures]
        if one.shards is None:
            known = digests.of_files(one.root, names, home, anew=anew, place=one.file, progress=progress)
        else:
            known = one.shards.digested(names)
        found += known[0]
        sizes += known[1]
    return layout.joined(listings), found, sizes


def _if_any(said: Iterable[str | None]) -> tuple[str | None, ...]:
    found = tuple(said)
    return found if any(found) else ()
