"""Which examples there are: an immutable listing with content digests, and its fingerprint."""

import hashlib
import json
import operator
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data import digests as digests_
from data import layout
from data import progress as progress_
from data.compact import CHUNK, DIGEST_BYTES, Coded, Digests, Texts
from data.gate.quarantine import NOTHING, Decisions
from data.layout import Listing, Pictures
from data.progress import Progress
from data.shards.index import Index
from data.spec import Part


@dataclass(frozen=True)
class Snapshot:
    """N examples, ordered by (class, digest, file), so that the order depends on content before names.

    The columns are read like tuples and may be any sequences; as `take` makes them they are `data.compact`'s.
    """

    name: str
    root: Path
    classes: tuple[str, ...]  # natural order, decided once from the whole listing
    files: Sequence[str]  # (N,) relative to root, posix
    labels: np.ndarray  # (N,) int32, index into classes
    digests: Sequence[str]  # (N,) sha256 of the bytes, hex
    sizes: np.ndarray  # (N,) int64, bytes
    parts: Sequence[Part | None]  # (N,) what the source's own folders say; None where they say nothing
    mirror: bool  # False where a mirrored picture changes its class (digits)
    ignored: tuple[str, ...] = ()  # files that are no examples; class folders without a picture end with a slash
    relabelled: int = 0  # of them in another class than their folder's, by a person's decision
    dropped: tuple[str, ...] = ()  # sorted digests of the rows that the gate or a person took out of their part
    missing: tuple[str, ...] = ()  # files that a listing names and that are not there
    groups: Sequence[str | None] = ()  # (N,) what must not be in two parts; empty where no picture has one
    times: Sequence[str | None] = ()  # (N,) ISO 8601 in UTC; empty where no picture has one
    shards: Index | None = None  # where the pictures lie, if that is not in files
    memories: tuple[Path, ...] = ()  # where its digests are remembered

    @cached_property
    def contents(self) -> np.ndarray:
        """(N,) int32: the same number for the same content, in the order of the digests, from 0 without a gap."""
        return self.hashed.numbers

    @cached_property
    def hashed(self) -> Digests:
        """The digests, as arrays have them."""
        return Digests.of(self.digests)

    @cached_property
    def stated(self) -> Coded[Part | None]:
        """The parts, as arrays have them."""
        return Coded.of(self.parts)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over classes, digests, labels, parts, groups, times, what was dropped: content, not paths."""
        found = hashlib.sha256()
        for piece in self._said():
            found.update(piece.encode())
        return found.hexdigest()

    def _said(self) -> Iterator[str]:
        """JSON, of pictures a few at a time: of a million it is 90 MB."""
        parts = Coded[Any].of(self.parts).replaced(lambda part: part or "")
        yield f"[{json.dumps(self.classes)}, "
        yield from _listed([self.labels, self.hashed, parts], [_ranks(parts), self.contents, self.labels])
        if self.dropped:  # as ever where nothing was; likewise below
            yield f", {json.dumps(self.dropped)}"
        for name, found in (("groups", self.groups), ("times", self.times)):
            if found:
                said = Coded.of(one or "" for one in found)
                yield f', {{"{name}": '
                yield from _listed([self.hashed, said], [_ranks(said), self.contents])
                yield "}"
        yield "]"

    def without(self, digests: AbstractSet[str]) -> "Snapshot":
        """The pictures that are none of these; the classes stay."""
        if not digests:
            return self
        rows = np.array([row for row, digest in enumerate(self.digests) if digest not in digests], np.int64)
        return replace(
            self,
            files=[self.files[row] for row in rows],
            labels=self.labels[rows],
            digests=self.hashed.taken(rows),
            sizes=self.sizes[rows],
            parts=self.stated.taken(rows),
            groups=[self.groups[row] for row in rows] if self.groups else (),
            times=[self.times[row] for row in rows] if self.times else (),
        )

    def forget(self) -> None:
        """Its digests: one turned out to be wrong, which the file's size and time of change do not tell."""
        for memory in self.memories:
            memory.unlink(missing_ok=True)

    def path(self, row: int) -> Path:
        return self.root / self.files[row] if self.shards is None else self.shards.path(self.files[row])

    def content(self, row: int) -> bytes | Path:
        """Its bytes, or its file where it has one."""
        return self.path(row) if self.shards is None else self.shards.content(self.files[row])

    def contents_of(self, rows: np.ndarray) -> Iterator[bytes | Path]:
        """The same of several, in their order; ask in the `order` in which they lie, and every shard is opened once."""
        if self.shards is None:
            return map(self.path, rows.tolist())
        return self.shards.contents(self.numbers(rows))

    def order(self, rows: np.ndarray) -> np.ndarray:
        """Places among these rows, in the order in which their pictures lie."""
        return np.arange(len(rows)) if self.shards is None else np.argsort(self.numbers(rows), kind="stable")

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """(M,) int64: which entries of the shards these rows are."""
        assert self.shards is not None
        return self.shards.numbers(Texts[str].of(self.files).taken(rows))


def _listed(columns: Sequence[np.ndarray | Digests | Coded[Any]], keys: Sequence[np.ndarray]) -> Iterator[str]:
    """A JSON list of the rows, in the order of the keys, the last of which is the first to be sorted by."""
    order = np.lexsort(list(keys))
    yield "["
    for start in range(0, len(order), CHUNK):
        some = order[start : start + CHUNK]
        cells = [one[some].tolist() if isinstance(one, np.ndarray) else list(one.taken(some)) for one in columns]
        yield (", " if start else "") + json.dumps(list(zip(*cells, strict=True)))[1:-1]
    yield "]"


def _ranks(values: Coded[Any]) -> np.ndarray:
    """(N,): their order as texts."""
    rank = {value: number for number, value in enumerate(sorted(values.table))}
    return values.by(rank.__getitem__)


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
    `anew` reads every file again. What a person decided of a class counts, and not its folder. Raises `SourceError`
    for what cannot be read or understood, `DataRefused` for a decision on a class there is not."""
    listings = [layout.read(root)] if listings is None else listings
    found, sizes = _digested(listings, home, anew=anew, progress=progress or progress_.ignore)
    pictures = Pictures.of((listing := layout.joined(listings)).pictures)
    labels = decisions.relabelled(found, pictures.labels)
    classes, numbers = _numbered(labels)
    order = _order(numbers, found, pictures.files)
    relabelled = sum(map(operator.ne, labels, pictures.labels)) if labels is not pictures.labels else 0
    pictures = pictures.taken(order)
    return Snapshot(
        name=name,
        root=listing.root,
        classes=classes,
        files=pictures.files,
        labels=numbers[order],
        digests=found.taken(order),
        sizes=sizes[order],
        parts=pictures.parts,
        mirror=mirror,
        groups=pictures.groups if any(pictures.groups.distinct) else (),
        times=pictures.times if (pictures.times.sizes > 0).any() else (),
        ignored=listing.ignored,
        missing=listing.missing,
        relabelled=relabelled,
        shards=listing.shards,
        memories=tuple(digests_.memory_of(one.file or one.root, home) for one in listings if one.shards is None),
    )


def _numbered(labels: Coded[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes that occur, and (N,) int32, places among them."""
    classes = tuple(sorted(labels.distinct, key=layout.natural))
    number = {label: i for i, label in enumerate(classes)}
    return classes, labels.by(lambda label: number.get(label, 0)).astype(np.int32)


def _order(labels: np.ndarray, found: Digests, files: Sequence[str]) -> np.ndarray:
    """(N,): by class, digest, file. Names are looked at where there are copies only."""
    begins = found.begins
    order = np.lexsort((begins, labels))
    same = (labels[order][1:] == labels[order][:-1]) & (begins[order][1:] == begins[order][:-1])
    edges = np.diff(np.concatenate([[False], same, [False]]).astype(np.int8))
    for first, last in zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True):
        some = order[first : last + 1].tolist()
        order[first : last + 1] = sorted(some, key=lambda row: (found[row], files[row]))
    return order


def _digested(listings: Sequence[Listing], home: Path, *, anew: bool, progress: Progress) -> tuple[Digests, np.ndarray]:
    """Digests and sizes of all their pictures; each listing's are remembered by themselves."""
    found, sizes = [np.zeros((0, DIGEST_BYTES), np.uint8)], [np.zeros(0, np.int64)]
    for one in listings:
        names = Pictures.of(one.pictures).files
        if one.shards is None:
            known = digests_.of_files(one.root, names, home, anew=anew, place=one.file, progress=progress)
        else:
            known = one.shards.digested(names)
        found.append(Digests.of(known[0]).raw)
        sizes.append(np.asarray(known[1], np.int64))
    return Digests(np.concatenate(found)), np.concatenate(sizes)
