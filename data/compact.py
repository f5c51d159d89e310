"""Sequences of a text for each picture that take a few bytes each: a tuple of strings takes a hundred, and a data set
has millions of them. They are read like tuples, and equal any sequence of the same values; none is ever changed."""

import operator
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Self, TypeVar, overload

import numpy as np

DIGEST_BYTES = 32
CHUNK = 4096  # values that are Python objects at a time

T = TypeVar("T")


class Compact(Sequence[T]):
    """What the three kinds have in common."""

    def taken(self, rows: np.ndarray) -> Self:
        """The values at these places, int (M,) or bool (N,), in that order."""
        raise NotImplementedError

    def values(self, start: int, end: int) -> list[T]:
        """Those between two places, `CHUNK` at most."""
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> T | Self:
        num = len(self)
        if isinstance(place, slice):
            return self.taken(np.arange(num)[place])
        index = operator.index(place)
        if not -num <= index < num:
            raise IndexError(f"{index} of {num}")
        return self.values(index % num, index % num + 1)[0]

    def __iter__(self) -> Iterator[T]:
        num = len(self)
        for start in range(0, num, CHUNK):
            yield from self.values(start, min(start + CHUNK, num))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.values(0, min(len(self), 3))))
        return f"{type(self).__name__}({shown}{', ...' if len(self) > 3 else ''} of {len(self):,})"


class Texts(Compact[T]):
    """Any texts, one behind the other in UTF-8; None where there is none. 12 bytes beside each."""

    def __init__(self, blob: bytes | bytearray | memoryview, starts: np.ndarray, sizes: np.ndarray) -> None:
        """starts (N,) int64 and sizes (N,) int32, bytes of the blob; a size of -1 is None."""
        self.blob, self.starts, self.sizes = blob, starts, sizes

    @classmethod
    def of(cls, texts: Iterable[T]) -> "Texts[T]":
        if isinstance(texts, Texts):
            return texts
        blob, told = bytearray(), array("i")
        for text in texts:
            raw = None if text is None else str(text).encode("utf-8", "surrogatepass")  # a file's name need be no text
            blob += raw or b""
            told.append(-1 if raw is None else len(raw))
        sizes = np.array(told, np.int32)
        ends = np.cumsum(np.maximum(sizes, 0), dtype=np.int64)
        return cls(blob, ends - np.maximum(sizes, 0), sizes)

    @classmethod
    def joined(cls, several: "Sequence[Texts[T]]") -> "Texts[T]":
        """One behind the other."""
        begins = np.cumsum([0, *(len(one.blob) for one in several)])
        starts = [one.starts + begin for one, begin in zip(several, begins.tolist(), strict=False)]
        return cls(
            b"".join(one.blob for one in several),
            _joined(starts, np.int64),
            _joined((one.sizes for one in several), np.int32),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def taken(self, rows: np.ndarray) -> Self:
        return type(self)(self.blob, self.starts[rows], self.sizes[rows])

    def values(self, start: int, end: int) -> list[T]:
        told = zip(self.starts[start:end].tolist(), self.sizes[start:end].tolist(), strict=True)
        found: list[Any] = [
            None if size < 0 else str(self.blob[at : at + size], "utf-8", "surrogatepass") for at, size in told
        ]
        return found


class Digests(Compact[str]):
    """sha256 of N contents, read as hex; 32 bytes each."""

    def __init__(self, raw: np.ndarray) -> None:
        """raw (N, 32) uint8."""
        self.raw = raw

    @classmethod
    def of(cls, digests: Iterable[str]) -> "Digests":
        """Raises `ValueError` for what are not 64 hexadecimal digits."""
        if isinstance(digests, Digests):
            return digests
        raw = bytearray()
        for digest in digests:
            raw += bytes.fromhex(digest)
        return cls(np.frombuffer(raw, np.uint8).reshape(-1, DIGEST_BYTES))

    def __len__(self) -> int:
        return len(self.raw)

    def taken(self, rows: np.ndarray) -> Self:
        return type(self)(self.raw[rows])

    def values(self, start: int, end: int) -> list[str]:
        text, width = self.raw[start:end].tobytes().hex(), 2 * DIGEST_BYTES
        return [text[place : place + width] for place in range(0, len(text), width)]

    @property
    def begins(self) -> np.ndarray:
        """(N,) uint64: the first 8 bytes, in whose order the digests are."""
        return np.ascontiguousarray(self.raw[:, :8]).view(">u8")[:, 0].astype(np.uint64)

    @cached_property
    def numbers(self) -> np.ndarray:
        """(N,) int32: the same for the same content, in the order of the digests, from 0 without a gap."""
        begins = self.begins
        order = np.argsort(begins, kind="stable")
        begins = begins[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = begins[1:] != begins[:-1]
        again = np.flatnonzero(~fresh)
        if (self.raw[order[again]] != self.raw[order[again - 1]]).any():  # somebody has searched for such files
            return np.unique(self.raw.view(f"S{DIGEST_BYTES}")[:, 0], return_inverse=True)[1].astype(np.int32)
        numbers = np.empty(len(order), np.int32)
        numbers[order] = np.cumsum(fresh, dtype=np.int32) - 1
        return numbers


class Coded(Compact[T]):
    """One of a few values each; a byte each, or as many as their number needs."""

    def __init__(self, codes: np.ndarray, table: Sequence[T]) -> None:
        """codes (N,), index into table."""
        self.codes, self.table = codes.astype(np.min_scalar_type(len(table)), copy=False), tuple(table)

    @classmethod
    def of(cls, values: Iterable[T]) -> "Coded[T]":
        if isinstance(values, Coded):
            return values
        table: dict[Any, int] = {}
        codes = array("i", (table.setdefault(value, len(table)) for value in values))
        return cls(np.array(codes, np.int32), tuple(table))

    @classmethod
    def joined(cls, several: "Sequence[Coded[T]]") -> "Coded[T]":
        """One behind the other."""
        table: dict[Any, int] = {}
        codes = [one.by(lambda value: table.setdefault(value, len(table))) for one in several]
        return cls(_joined(codes, np.int64), tuple(table))

    def __len__(self) -> int:
        return len(self.codes)

    def taken(self, rows: np.ndarray) -> Self:
        return type(self)(self.codes[rows], self.table)

    def values(self, start: int, end: int) -> list[T]:
        return [self.table[code] for code in self.codes[start:end].tolist()]

    @property
    def distinct(self) -> set[T]:
        """Those that occur."""
        return {self.table[code] for code in np.unique(self.codes).tolist()}

    def by(self, number: Callable[[T], int]) -> np.ndarray:
        """(N,) int64: the number of each, asked once for each value of the table."""
        numbers: np.ndarray = np.array([number(value) for value in self.table], np.int64)[self.codes]
        return numbers

    def replaced(self, other: Callable[[T], T]) -> "Coded[T]":
        """Another value for each, asked once for each value of the table."""
        table: dict[Any, int] = {}
        codes = self.by(lambda value: table.setdefault(other(value), len(table)))
        return Coded(codes, tuple(table))

    def where(self, value: object) -> np.ndarray:
        """(N,) bool."""
        return np.isin(self.codes, [code for code, one in enumerate(self.table) if one == value])


def chunks(num: int) -> Iterator[slice]:
    """Of `CHUNK` places each, all of `num`."""
    return (slice(start, min(start + CHUNK, num)) for start in range(0, num, CHUNK))


def at_a_time(values: Iterable[T]) -> Iterator[list[T]]:
    """`CHUNK` of them."""
    coming = iter(values)
    while some := list(islice(coming, CHUNK)):
        yield some


def _joined(several: Iterable[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *several]).astype(kind, copy=False)
