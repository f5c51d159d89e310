"""Which example is trained on, chosen by, and tested on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import DataRefused
from data.images import Images
from data.parting import by_content, by_group, by_time
from data.parting.pool import STRONGEST as STRONGEST
from data.parting.pool import Pool, file_of, together, way_of
from data.spec import DatasetSpec, Part

WAYS = {"content": by_content.parts, "group": by_group.parts, "time": by_time.parts}


@dataclass(frozen=True)
class Split:
    """Sorted, disjoint rows of an `Images`.

    Together they are all rows, except copies of a picture that the source put into two parts: those of the weaker
    part (train before val before test) are in none, so that no test picture is trained on; likewise copies in a group
    of another part. And except what the gate or a person dropped (`without`).
    """

    train: np.ndarray  # int64
    val: np.ndarray
    test: np.ndarray

    @property
    def development(self) -> np.ndarray:
        """Train and validation rows: what cross-validation may see."""
        return np.sort(np.concatenate([self.train, self.val]))

    def without(self, rows: np.ndarray) -> "Split":
        """Those rows in no part, and every other one where it was."""
        return Split(*(part[~np.isin(part, rows)] for part in (self.train, self.val, self.test)))


@dataclass(frozen=True)
class Fold:
    train: np.ndarray
    val: np.ndarray


def assign(images: Images, spec: DatasetSpec, home: Path, *, alike: Iterable[Sequence[int]] = ()) -> Split:
    """Parts the source states are kept; what it lacks is split off, by content, by group or by time, and remembered.
    By content, rows that are nearly the same (`alike`, groups of them) are kept together.

    A source without train has its val split; one with test alone is refused (`DataRefused`).
    """
    stated = [images.snapshot.parts[row] for row in images.rows]
    digests = [images.digest(row) for row in range(len(images.rows))]
    fixed, missing = _stated(digests, stated)
    here = [row for row, digest in enumerate(digests) if digest not in fixed]
    pool = Pool(
        digests=[digests[row] for row in here],
        labels=images.labels[here].tolist(),
        groups=[images.group(row) for row in here],
        times=[images.time(row) for row in here],
        stated=[stated[row] for row in here],
        taken=_taken(images, digests, fixed, stated),
        missing=missing,
        alike=[tuple({digests[row]: None for row in rows if digests[row] not in fixed}) for rows in alike],
    )
    decided = WAYS[way_of(images.snapshot, spec)](pool, spec, file_of(images, spec, home))
    parts = dict(zip(here, decided, strict=True))
    for row, (digest, said) in enumerate(zip(digests, stated, strict=True)):
        if digest in fixed and said == fixed[digest]:
            parts[row] = said
    return Split(*(np.array(sorted(row for row, one in parts.items() if one is part), np.int64) for part in Part))


def folds(images: Images, rows: np.ndarray, *, k: int, seed: int, by_group: bool = True) -> list[Fold]:
    """Stratified folds that partition `rows` (rows of `images`); copies of a picture stay in one fold, and so do
    groups where there are any, unless not `by_group`.

    Raises `DataRefused` where a class has fewer different pictures, or groups, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # late: a second to import

    rows = np.sort(np.asarray(rows, dtype=np.int64))
    _, first, content = np.unique([images.digest(row) for row in rows], return_index=True, return_inverse=True)
    labels = images.labels[rows][first]  # (contents,)
    units, what = np.arange(len(labels)), "different pictures"
    if by_group and images.snapshot.groups:
        units, what = together(content, [images.group(row) for row in rows]), "groups"
    counts = np.bincount(np.unique([labels, units], axis=1)[0], minlength=len(images.classes))
    short = [(images.classes[i], int(n)) for i, n in enumerate(counts) if 0 < n < k]
    if short:
        raise DataRefused(
            f"crossval.folds {k} needs {k} {what} of each class outside the test part; "
            f"{short[0][0]!r} has {short[0][1]}; use fewer folds or add pictures"
        )
    by, of = (StratifiedGroupKFold, units) if what == "groups" else (StratifiedKFold, None)
    found = []
    for _, held_out in by(k, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels, of):
        val = np.isin(content, held_out)
        found.append(Fold(train=rows[~val], val=rows[val]))
    return found


def _stated(digests: Sequence[str], stated: Sequence[Part | None]) -> tuple[dict[str, Part], list[Part]]:
    """Content whose part the source decides, and the parts to be split off the rest."""
    present = set(stated)
    if present == {Part.TEST}:
        raise DataRefused("the source has a test folder and nothing to train on; add a train folder beside it")
    pool = Part.TRAIN if present & {Part.TRAIN, None} else Part.VAL
    kept = [part for part in STRONGEST if part in present and part != pool]
    fixed: dict[str, Part] = {}
    for part in kept:
        for digest, said in zip(digests, stated, strict=True):
            if said == part:
                fixed.setdefault(digest, part)
    return fixed, [part for part in (Part.TEST, Part.VAL) if part not in kept]


def _taken(
    images: Images, digests: Sequence[str], fixed: Mapping[str, Part], stated: Sequence[Part | None]
) -> dict[str, Part]:
    """Groups of which the source states the part: the strongest, where there are several."""
    found: dict[str, Part] = {}
    if images.snapshot.groups:
        for part in reversed(STRONGEST):
            rows = [row for row, said in enumerate(stated) if said == part and fixed.get(digests[row]) == part]
            found |= {group: part for row in rows if (group := images.group(row)) is not None}
    return found
