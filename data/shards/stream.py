"""Pictures that stay in their shards: an array's face, behind which they are decoded when they are asked for.

What is looked at again and again, the validation and test part, is decoded once and kept, as all pictures of other
sources are.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from data.errors import DataRefused
from data.shards import decoders
from data.shards.index import Index
from data.shards.order import WINDOW
from data.shards.read import Piece
from data.spec import ImageSpec

if TYPE_CHECKING:
    from data.snapshot import Snapshot

FEW = 1024  # pictures, which are decoded in less time than it takes processes to start


class Streamed:
    """(M, stored_height, stored_width, C) uint8, of the readable pictures of a snapshot, in its order.

    It has of an array what is asked of pixels: a shape, a length, and rows by number, slice or array. Each is decoded
    anew, unless it is kept.
    """

    def __init__(self, snapshot: Snapshot, rows: np.ndarray, spec: ImageSpec) -> None:
        """rows (M,): which of the snapshot."""
        assert snapshot.shards is not None
        index: Index = snapshot.shards
        self._numbers = snapshot.numbers(rows)
        self._index, self._spec = index, spec
        self._files = snapshot.files
        self._rows = rows
        self.shape = (len(rows), spec.stored_height, spec.stored_width, spec.channels)
        self.dtype, self.nbytes = np.dtype(np.uint8), int(np.prod(self.shape))
        self.shards: np.ndarray = index.shard[self._numbers]  # (M,) which shard each lies in
        self._kept = np.empty((0, *self.shape[1:]), np.uint8)
        self._slot = np.full(len(rows), -1)  # of each row in those kept
        self._waiting: list[decoders.Crew] = []
        weakref.finalize(self, _end, self._waiting)

    def keeping(self, rows: np.ndarray, kept: np.ndarray) -> None:
        """From here on `rows` are taken from `kept` (len(rows), H, W, C)."""
        self._kept = kept
        self._slot[:] = -1
        self._slot[rows] = np.arange(len(rows))

    def parts(self, at_most: int, rows: np.ndarray | None = None) -> list[np.ndarray]:
        """Places among these rows, of all by default, in the order in which their pictures lie, so many at a time."""
        order = np.argsort(self._numbers if rows is None else self._numbers[rows], kind="stable")
        return np.split(order, np.arange(at_most, len(order), at_most)) if len(order) else []

    def lying(self, at_most: int, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`parts`, with the pictures (B, H, W, C) of each: every shard is read once."""
        parts = self.parts(at_most, rows)
        return zip(parts, self.batches(parts if rows is None else [rows[part] for part in parts]), strict=True)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray | Sequence[int]) -> np.ndarray:
        wanted = _chosen(rows, len(self))
        found = next(self.batches([np.atleast_1d(wanted)], processes=0))
        return found if wanted.ndim else found[0]

    def batches(self, parts: Sequence[np.ndarray], *, processes: int | None = None) -> Generator[np.ndarray]:
        """(B, H, W, C) for each array of rows, decoded ahead by so many processes, by default one for each core."""
        parts = [np.asarray(part, np.int64) for part in parts]
        if all((self._slot[part] >= 0).all() for part in parts):
            yield from (self._kept[self._slot[part]] for part in parts)
            return
        yield from self._decoded(parts, self._refuse, processes)

    def refusals(self, parts: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, list[tuple[int, str]]]]:
        """(rows, those of them that cannot be decoded and why) of each part."""
        found: list[tuple[int, str]] = []
        took = self._decoded(parts, lambda *one: found.append(one))
        for part, _ in zip(parts, took, strict=True):
            own = set(part.tolist())
            yield part, sorted(one for one in found if one[0] in own)
            found[:] = [one for one in found if one[0] not in own]

    def _decoded(
        self, parts: Sequence[np.ndarray], refused: decoders.Refused, processes: int | None = None
    ) -> Iterator[np.ndarray]:
        if not parts:
            return
        total, largest = sum(map(len, parts)), max(map(len, parts))
        coming = self._announced(parts)
        wanted = decoders.cores() if processes is None else processes
        if not wanted or (processes is None and total < FEW and not self._waiting):
            with self._held() as pieces:
                yield from decoders.here(coming, pieces, self._spec, refused)
            return
        crew = self._waiting.pop() if self._waiting else None
        if crew is not None and (crew.processes, crew.largest >= largest) != (wanted, True):
            crew.end()
            crew = None
        crew = crew or decoders.Crew(self._spec, processes=wanted, largest=largest)
        try:
            with self._held() as pieces:
                yield from crew.batches(coming, pieces, refused)
        finally:
            if crew.idle:  # to import takes a process longer than to decode hundreds of pictures
                self._waiting.append(crew)
            else:
                crew.end()

    def _announced(self, parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The same; with each, its place hears which shards come after its own."""
        order, first = np.unique(self.shards[np.concatenate(parts)], return_index=True)
        turns = order[np.argsort(first)]  # shards, in the order in which they are needed
        turn = np.empty(len(self._index.shards), np.int64)
        turn[turns] = np.arange(len(turns))
        for rows in parts:
            after = int(turn[self.shards[rows]].max(initial=-1)) + 1
            self._index.place.soon([self._index.shards[which].name for which in turns[after : after + WINDOW]])
            yield rows

    @contextmanager
    def _held(self) -> Iterator[decoders.Pieces]:
        """`_pieces`, whose shards stay where they are until the batch that they were asked for is out."""
        held = deque[ExitStack]()

        def pieces(rows: np.ndarray) -> list[Piece]:
            if len(held) == decoders.AHEAD:
                held.popleft().close()  # no more batches than these are decoded at a time
            held.append(ExitStack())
            held[-1].enter_context(self._index.place.in_use())
            return self._pieces(rows)

        try:
            yield pieces
        finally:
            for one in held:
                one.close()

    def _pieces(self, rows: np.ndarray) -> list[Piece]:
        return self._index.pieces(self._numbers[rows])

    def _refuse(self, row: int, reason: str) -> None:
        raise DataRefused(f"{self._files[self._rows[row]]} was read before, and now: {reason}")


def _chosen(rows: int | slice | np.ndarray | Sequence[int], num: int) -> np.ndarray:
    """Those of `num` that these name, as an array is asked for them; int64 (M,), or () for a single one."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(num))
    if isinstance(rows, int | np.integer):
        return np.array(range(num)[rows], np.int64)
    chosen = np.asarray(rows)
    chosen = np.arange(num)[chosen] if chosen.dtype == bool else chosen.astype(np.int64)
    if len(chosen) and not (-num <= chosen.min() and chosen.max() < num):
        raise IndexError(f"rows {chosen.min()} to {chosen.max()} of {num}")
    return np.where(chosen < 0, chosen + num, chosen)


def _end(crews: list[decoders.Crew]) -> None:
    while crews:
        crews.pop().end()
