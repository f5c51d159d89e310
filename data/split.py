"""Which example is trained on, chosen by, and tested on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.compact import Coded
from data.errors import DataRefused
from data.images import Images
from data.parting import by_content, by_group, by_time
from data.parting.alike import followers
from data.parting.pool import LEFT_OPEN, Pool, file_of, strengths, together, way_of
from data.parting.pool import STRONGEST as STRONGEST
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
    stated, contents = strengths(images.snapshot)[images.rows], images.snapshot.contents[images.rows]
    fixed, missing = _stated(contents, stated)
    here = np.flatnonzero(fixed[contents] == LEFT_OPEN)
    pool = Pool.of(
        images,
        here,
        stated=stated[here],
        taken=_taken(images, contents, fixed, stated),
        missing=missing,
        alike=_places(here, len(contents), alike),
    )
    parts = np.full(len(contents), LEFT_OPEN, np.int8)
    parts[here] = WAYS[way_of(images.snapshot, spec)](pool, spec, file_of(images, spec, home))
    kept = (fixed[contents] == stated) & (stated != LEFT_OPEN)
    parts[kept] = stated[kept]
    return Split(*(np.flatnonzero(parts == STRONGEST.index(part)) for part in Part))


def folds(
    images: Images,
    rows: np.ndarray,
    *,
    k: int,
    seed: int,
    by_group: bool = True,
    alike: Iterable[Sequence[int]] = (),
) -> list[Fold]:
    """Stratified folds that partition `rows` (rows of `images`); copies of a picture stay in one fold, and so do
    groups where there are any and `by_group`, or else what is nearly the same (`alike`), as in a split.

    Raises `DataRefused` where a class has fewer different pictures, or groups, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # late: a second to import

    rows = np.sort(np.asarray(rows, dtype=np.int64))
    contents = images.snapshot.contents[images.rows[rows]]
    _, first, content = np.unique(contents, return_index=True, return_inverse=True)
    labels = images.labels[rows][first]  # (contents,)
    if by_group and images.snapshot.groups:
        units = together(content, [images.group(row) for row in rows])
        _refuse_few(images.classes, labels, units, k, "groups")
        made = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(labels, labels, units)
        return [_fold(rows, np.isin(content, held_out)) for _, held_out in made]
    groups = [np.unique(content[places]) for places in _places(rows, len(images.rows), alike)]
    digests = images.snapshot.hashed.taken(images.rows[rows[first]])
    leader = followers(groups, digests, labels, np.full(len(labels), LEFT_OPEN), seed)
    leads = np.flatnonzero(leader == np.arange(len(leader)))
    what = "different pictures" if len(leads) == len(labels) else "pictures that are not nearly the same"
    _refuse_few(images.classes, labels[leads], leads, k, what)
    made = StratifiedKFold(k, shuffle=True, random_state=seed).split(leads, labels[leads])
    return [_fold(rows, np.isin(leader[content], leads[held_out])) for _, held_out in made]


def _fold(rows: np.ndarray, held_out: np.ndarray) -> Fold:
    return Fold(train=rows[~held_out], val=rows[held_out])


def _refuse_few(classes: Sequence[str], labels: np.ndarray, units: np.ndarray, k: int, what: str) -> None:
    """labels, units: (contents,); what has one number stays together."""
    counts = np.bincount(np.unique([labels, units], axis=1)[0], minlength=len(classes))
    short = [(classes[i], int(n)) for i, n in enumerate(counts) if 0 < n < k]
    if short:
        raise DataRefused(
            f"crossval.folds {k} needs {k} {what} of each class outside the test part; "
            f"{short[0][0]!r} has {short[0][1]}; use fewer folds or add pictures"
        )


def _places(here: np.ndarray, num: int, groups: Iterable[Sequence[int]]) -> list[np.ndarray]:
    """Rows, of `num`, of each group -> their places among those `here`, ascending; what is elsewhere is left out."""
    place = np.full(num, -1)
    place[here] = np.arange(len(here))
    found = (np.sort(place[np.asarray(group, np.int64)]) for group in groups)
    return [places[places >= 0] for places in found]


def _stated(contents: np.ndarray, stated: np.ndarray) -> tuple[np.ndarray, list[Part]]:
    """The part of each content (C,), where the source decides it, and the parts to be split off the rest. Parts are
    told as places in `STRONGEST`."""
    present = {STRONGEST[code] for code in np.unique(stated[stated != LEFT_OPEN]).tolist()}
    if present == {Part.TEST} and (stated != LEFT_OPEN).all():
        raise DataRefused("the source has a test folder and nothing to train on; add a train folder beside it")
    pool = Part.TRAIN if Part.TRAIN in present or (stated == LEFT_OPEN).any() else Part.VAL
    kept = [part for part in STRONGEST if part in present and part != pool]
    fixed = np.full(int(contents.max(initial=-1)) + 1, LEFT_OPEN, np.int8)
    for part in reversed(kept):
        fixed[contents[stated == STRONGEST.index(part)]] = STRONGEST.index(part)
    return fixed, [part for part in (Part.TEST, Part.VAL) if part not in kept]


def _taken(images: Images, contents: np.ndarray, fixed: np.ndarray, stated: np.ndarray) -> dict[str, Part]:
    """Groups of which the source states the part: the strongest, where there are several."""
    found: dict[str, Part] = {}
    if images.snapshot.groups:
        groups = Coded[str | None].of(images.snapshot.groups).taken(images.rows)
        for code, part in reversed([*enumerate(STRONGEST)]):
            rows = (stated == code) & (fixed[contents] == code)
            found |= {group: part for group in groups.taken(rows).distinct if group is not None}
    return found
