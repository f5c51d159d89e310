"""What is different between two records of a data set: by content, so that no file is opened and no pixel seen.

Several files of one content are counted as often as they occur. Of those that both records have, pairs are made of the
ones that are most alike; each pair is told once, as relabelled, else as moved to another part, else as renamed.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from data import layout
from data.history.records import OPEN, PARTS, Record
from data.spec import Frozen

EXAMPLES = 5  # of each group
STAGES = (  # columns that a pair has in common, the most alike first
    ("content", "label", "part", "file"),
    ("content", "label", "file"),
    ("content", "label", "part"),
    ("content", "label"),
    ("content",),
)
KINDS = {  # as they are told
    "added": "added",
    "removed": "removed",
    "relabelled": "relabelled",
    "moved": "moved to another part",
    "renamed": "renamed",
}

Columns = dict[str, np.ndarray]
"""Name -> (N,) int64, comparable between the two records."""


class Side(Frozen):
    """One of the two records."""

    fingerprint: str
    pictures: int
    classes: int


class Seen(Frozen):
    """A picture in one of the records."""

    file: str
    label: str
    part: str | None  # empty: in none; None: left open


class Example(Frozen):
    """A picture, before and after; None where it was not there."""

    before: Seen | None
    after: Seen | None


class Group(Frozen):
    """Pictures of one class to which the same happened."""

    label: str  # their class, after it
    before: str | None = None  # relabelled: their class before; moved: their part before
    after: str | None = None  # likewise
    count: int
    examples: tuple[Example, ...]  # the first few


class Difference(Frozen):
    """From one record to another. Groups are in the order of their classes."""

    before: Side
    after: Side
    unchanged: int
    added: tuple[Group, ...]
    removed: tuple[Group, ...]
    relabelled: tuple[Group, ...]
    moved: tuple[Group, ...]
    renamed: tuple[Group, ...]
    classes_added: tuple[str, ...]
    classes_removed: tuple[str, ...]

    def groups(self, kind: str) -> tuple[Group, ...]:
        """`kind`: one of KINDS."""
        found: tuple[Group, ...] = getattr(self, kind)
        return found

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each of KINDS."""
        return {kind: sum(group.count for group in self.groups(kind)) for kind in KINDS}

    @property
    def sentence(self) -> str:
        """120 added, 3 removed, 2 relabelled."""
        said = [f"{count:,} {KINDS[kind]}" for kind, count in self.counts.items() if count]
        return ", ".join(said) or "nothing changed"


def diff(before: Record, after: Record) -> Difference:
    """What became of the pictures of `before` in `after`. N log N, a few hundred bytes a picture."""
    classes = sorted({*before.classes, *after.classes}, key=layout.natural)
    one, other = _columns(before, after, classes)
    left, right = _pairs(one, other)  # (pairs,) rows of each
    relabelled = one["label"][left] != other["label"][right]
    moved = ~relabelled & _moved(before, after, left, right)
    renamed = ~relabelled & ~moved & (one["file"][left] != other["file"][right])
    gone = np.delete(np.arange(len(before.labels)), left)
    new = np.delete(np.arange(len(after.labels)), right)
    told = _Telling(before, after)
    return Difference(
        before=_side(before),
        after=_side(after),
        unchanged=int((~(relabelled | moved | renamed)).sum()),
        added=told.groups(((None, row) for row in new.tolist()), classes),
        removed=told.groups(((row, None) for row in gone.tolist()), classes),
        relabelled=told.groups(_rows(left, right, relabelled), classes, change="label"),
        moved=told.groups(_rows(left, right, moved), classes, change="part"),
        renamed=told.groups(_rows(left, right, renamed), classes),
        classes_added=tuple(label for label in classes if label not in before.classes),
        classes_removed=tuple(label for label in classes if label not in after.classes),
    )


class _Telling:
    """Rows of the two records in words."""

    def __init__(self, before: Record, after: Record) -> None:
        self._before, self._after = before, after

    def groups(
        self, rows: Iterable[tuple[int | None, int | None]], classes: Sequence[str], *, change: str | None = None
    ) -> tuple[Group, ...]:
        """`change`: the field of `Seen` that differs and parts them into groups of their own."""
        counts: dict[tuple[str, str | None, str | None], int] = {}
        examples: dict[tuple[str, str | None, str | None], list[Example]] = {}
        for row, other in rows:
            before, after = _seen(self._before, row), _seen(self._after, other)
            label = (after or before).label  # type: ignore[union-attr]  # one of them is there
            key = (label, getattr(before, change), getattr(after, change)) if change else (label, None, None)
            counts[key] = counts.get(key, 0) + 1
            if counts[key] <= EXAMPLES:
                examples.setdefault(key, []).append(Example(before=before, after=after))
        position = {label: number for number, label in enumerate(classes)}
        ordered = sorted(counts, key=lambda key: (position[key[0]], key[1] or "", key[2] or ""))
        return tuple(
            Group(label=key[0], before=key[1], after=key[2], count=counts[key], examples=_by_name(examples[key]))
            for key in ordered
        )


def _by_name(examples: list[Example]) -> tuple[Example, ...]:
    return tuple(sorted(examples, key=lambda one: [seen.file for seen in (one.before, one.after) if seen]))


def _side(record: Record) -> Side:
    return Side(fingerprint=record.fingerprint, pictures=len(record.labels), classes=len(record.classes))


def _seen(record: Record, row: int | None) -> Seen | None:
    if row is None:
        return None
    part = int(record.parts[row])
    return Seen(
        file=record.files[row].encode("utf-8", "replace").decode(),  # names need not be text
        label=record.classes[record.labels[row]],
        part=None if part == OPEN else str(PARTS[part]),
    )


def _rows(left: np.ndarray, right: np.ndarray, chosen: np.ndarray) -> Iterable[tuple[int, int]]:
    return zip(left[chosen].tolist(), right[chosen].tolist(), strict=True)


def _columns(before: Record, after: Record, classes: Sequence[str]) -> tuple[Columns, Columns]:
    _, contents = np.unique(np.concatenate([before.digests, after.digests]), return_inverse=True)
    position = {label: number for number, label in enumerate(classes)}

    def columns(record: Record, content: np.ndarray) -> Columns:
        numbers = np.array([position[label] for label in record.classes], np.int64)
        names = (hash(file) for file in record.files)  # 64 bits, which tell a million names apart
        return {
            "content": content,
            "label": numbers[record.labels],
            "part": record.parts.astype(np.int64),
            "file": np.fromiter(names, np.int64, len(record.files)),
        }

    return columns(before, contents[: len(before.labels)]), columns(after, contents[len(before.labels) :])


def _pairs(one: Columns, other: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each that are the same picture, in the order of the first."""
    free, other_free = (np.arange(len(side["content"])) for side in (one, other))
    found, other_found = [], []
    for stage in STAGES:
        a, b = _equal([one[name][free] for name in stage], [other[name][other_free] for name in stage])
        found.append(free[a])
        other_found.append(other_free[b])
        free, other_free = np.delete(free, a), np.delete(other_free, b)
    left, right = np.concatenate(found), np.concatenate(other_found)
    order = np.argsort(left)
    return left[order], right[order]


def _equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Positions in each of equal keys, one to one: where the one has three of a key and the other two, the first two.

    A key is the same position in all columns of a side.
    """
    num = len(one[0])
    if not num or not len(other[0]):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    columns = [np.concatenate(both) for both in zip(one, other, strict=True)]
    order = np.lexsort(columns)  # stable: of each key those of the first side come first
    begins = np.concatenate([[True], np.any([np.diff(column[order]) != 0 for column in columns], axis=0)])
    key = np.cumsum(begins) - 1
    second = order >= num
    of_first = np.bincount(key[~second], minlength=key[-1] + 1)
    rank = np.arange(len(order)) - np.flatnonzero(begins)[key] - np.where(second, of_first[key], 0)
    numbered = key * len(order) + rank
    _, a, b = np.intersect1d(numbered[~second], numbered[second], assume_unique=True, return_indices=True)
    return order[~second][a], order[second][b] - num


def _moved(before: Record, after: Record, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(pairs,) bool. A source alone does not say what is left out of its parts."""
    was, is_ = before.parts[left], after.parts[right]
    known = (was != OPEN) & (is_ != OPEN)
    if not (before.split and after.split):
        known &= (was != 0) & (is_ != 0)
    moved: np.ndarray = known & (was != is_)
    return moved
