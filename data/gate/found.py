"""What a rule looks at, and what it found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from data import progress as progress_
from data.frozen import Frozen
from data.gate.words import printable
from data.images import Images
from data.progress import Progress
from data.snapshot import Snapshot
from data.spec import DatasetSpec
from data.split import Split

LISTED = 50  # files in a finding


class Finding(Frozen):
    """What one rule saw, for reports."""

    rule: str
    level: Literal["note", "warn", "drop", "stop"]  # note: nobody has to act
    message: str  # one sentence: what, the value, the remedy
    count: int = 0  # of pictures or files concerned; 0 where the finding is about the whole
    files: tuple[str, ...] = ()  # at most 50 of them, relative to the source's root
    groups: tuple[tuple[str, ...], ...] = ()  # those of one content together, at most 50 groups


@dataclass(frozen=True)
class Spot:
    """One picture that a rule speaks of."""

    row: int  # of the snapshot
    score: float | None = None  # as the rule measures; for the quarantine list
    advice: str = ""  # what a person could do, for the quarantine list
    dropped: bool = True  # whether the level `drop` takes it out: of copies, one stays


@dataclass(frozen=True)
class Found:
    """What a rule found. `message`: one sentence: what, the value, the remedy."""

    message: str
    spots: tuple[Spot, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()  # rows that belong together
    refused: bool = False  # beyond what any level lets through


@dataclass(frozen=True)
class Subject:
    """What there is to look at. N rows of the snapshot; `images` and `split` where the chain has come so far."""

    snapshot: Snapshot
    spec: DatasetSpec
    home: Path  # where what takes long to measure is remembered
    left: np.ndarray  # (N,) bool: neither a person nor a rule has dropped it
    kept: np.ndarray  # (N,) bool: a person wants to hear no more of it
    images: Images | None = None
    split: Split | None = None
    progress: Progress = progress_.ignore  # of what takes long

    @cached_property
    def asked(self) -> np.ndarray:
        """(N,) bool: what rules are to speak of."""
        asked: np.ndarray = self.left & ~self.kept
        return asked

    @property
    def pictures(self) -> Images:
        """For rules that are asked once the pictures are decoded."""
        assert self.images is not None
        return self.images

    def without(self, rows: Sequence[int]) -> "Subject":
        left = self.left.copy()
        left[list(rows)] = False
        return replace(self, left=left)

    def file(self, row: int) -> str:
        return printable(self.snapshot.files[row])


def finding(
    rule: str,
    level: Literal["note", "warn", "drop", "stop"],
    message: str,
    files: Sequence[str] = (),
    groups: Iterable[Sequence[str]] = (),
) -> Finding:
    """With as many files and groups as a report lists."""
    return Finding(
        rule=rule,
        level=level,
        message=message,
        count=len(files),
        files=tuple(printable(file) for file in islice(files, LISTED)),
        groups=tuple(tuple(printable(file) for file in group[:LISTED]) for group in islice(groups, LISTED)),
    )
