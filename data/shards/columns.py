"""What is known of the pictures of many shards, in columns: a few bytes for each beside its name."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from data.compact import Coded, Compact, Digests, Texts, at_a_time
from data.shards.sample import Entry
from data.spec import Part


class Entries(Compact[Entry]):
    """N of them."""

    def __init__(
        self,
        names: Texts[str],
        offsets: np.ndarray,
        sizes: np.ndarray,
        digests: Digests,
        labels: Coded[str],
        parts: Coded[Part | None],
        groups: Coded[str | None],
        times: Texts[str | None],
    ) -> None:
        """offsets and sizes (N,) int64, bytes."""
        self.names, self.offsets, self.sizes, self.digests = names, offsets, sizes, digests
        self.labels, self.parts, self.groups, self.times = labels, parts, groups, times

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> "Entries":
        """Of any number; few of them are in memory at a time."""
        return cls.joined([cls._of(some) for some in at_a_time(entries)])

    @classmethod
    def _of(cls, entries: Sequence[Entry]) -> "Entries":
        return cls(
            Texts.of(one.name for one in entries),
            np.array([one.offset for one in entries], np.int64),
            np.array([one.size for one in entries], np.int64),
            Digests.of(one.digest for one in entries),
            Coded.of(one.label for one in entries),
            Coded.of(one.part for one in entries),
            Coded.of(one.group for one in entries),
            Texts.of(one.time for one in entries),
        )

    @classmethod
    def joined(cls, several: "Sequence[Entries]") -> "Entries":
        """One behind the other."""
        every = [*several, cls._of(())]
        return cls(
            Texts.joined([one.names for one in every]),
            np.concatenate([one.offsets for one in every]),
            np.concatenate([one.sizes for one in every]),
            Digests(np.concatenate([one.digests.raw for one in every])),
            Coded.joined([one.labels for one in every]),
            Coded.joined([one.parts for one in every]),
            Coded.joined([one.groups for one in every]),
            Texts.joined([one.times for one in every]),
        )

    def __len__(self) -> int:
        return len(self.offsets)

    def taken(self, rows: np.ndarray) -> "Entries":
        return Entries(
            *(column[rows] if isinstance(column, np.ndarray) else column.taken(rows) for column in self._all)
        )

    def values(self, start: int, end: int) -> list[Entry]:
        some = slice(start, end)
        columns = (
            column[some].tolist() if isinstance(column, np.ndarray) else column.values(start, end)
            for column in self._all
        )
        return [Entry(*row) for row in zip(*columns, strict=True)]

    @property
    def _all(self) -> tuple[Any, ...]:
        """In the order of an `Entry`."""
        return (
            self.names, self.offsets, self.sizes, self.digests, self.labels, self.parts, self.groups, self.times
        )  # fmt: skip


class Numbers:
    """Text -> its place among N different ones: 12 bytes beside each, where a dict takes more than a hundred."""

    def __init__(self, texts: Texts[str], *, hashed: Callable[[str], int] = hash) -> None:
        """Raises `ValueError` for a text that is there twice, of which it has the first place and the text."""
        self.texts, self._hash = texts, hashed
        hashes = self._hashes(texts)
        self._order = np.argsort(hashes, kind="stable").astype(np.min_scalar_type(len(texts)))
        self._sorted = hashes[self._order]
        equal = self._sorted[1:] == self._sorted[:-1]
        self._several = np.unique(self._sorted[1:][equal])  # hashes that are of several texts, which is very rare
        self._those: dict[str, int] = {}
        for place in np.flatnonzero(np.isin(hashes, self._several)).tolist() if len(self._several) else ():
            if self._those.setdefault(texts[place], place) != place:
                raise ValueError(texts[place])

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """(M,) int64. Raises `KeyError` for what is not among them."""
        wanted = self._hashes(texts)
        if not len(wanted):
            return np.zeros(0, np.int64)
        at = np.searchsorted(self._sorted, wanted).clip(max=max(len(self._sorted) - 1, 0))
        known = self._sorted[at] == wanted if len(self._sorted) else np.zeros(len(wanted), bool)
        if not known.all():
            raise KeyError(texts[int(np.argmin(known))])
        found: np.ndarray = self._order[at].astype(np.int64)
        for place in np.flatnonzero(np.isin(wanted, self._several)).tolist() if len(self._several) else ():
            found[place] = self._those[texts[place]]
        return found

    def _hashes(self, texts: Sequence[str]) -> np.ndarray:
        """(M,) int64."""
        return np.fromiter(map(self._hash, texts), np.int64, len(texts))
