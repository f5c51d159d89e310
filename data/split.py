"""Which example is trained on, chosen by, and tested on."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import whole
from data.errors import DataRefused
from data.images import Images
from data.spec import DatasetSpec, Part

STRONGEST = (Part.TEST, Part.VAL, Part.TRAIN)  # where the same content is stated twice, the first of these keeps it


@dataclass(frozen=True)
class Split:
    """Sorted, disjoint rows of an `Images`.

    Together they are all rows, except copies of a picture that the source put into two parts: those of the weaker
    part (train before val before test) are in none, so that no test picture is trained on. And except what the gate or
    a person dropped (`without`).
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


def assign(images: Images, spec: DatasetSpec, home: Path) -> Split:
    """Parts the source states are kept; what it lacks is split off, stratified, by content, and remembered.

    A source without train has its val split; one with test alone is refused (`DataRefused`).
    """
    stated = [images.snapshot.parts[row] for row in images.rows]
    digests = [images.digest(row) for row in range(len(images.rows))]
    fixed, missing = _stated(digests, stated)
    labels: dict[str, int] = {}  # of the content still to be assigned: one label each, should it have several
    for digest, label in zip(digests, images.labels.tolist(), strict=True):
        if digest not in fixed:
            labels.setdefault(digest, label)
    parts = fixed | _remembered(labels, missing, spec, home / "datasets" / "splits" / _file_name(images, spec))
    chosen: dict[Part, list[int]] = {part: [] for part in Part}
    for row, (digest, part) in enumerate(zip(digests, stated, strict=True)):
        if digest not in fixed or part == fixed[digest]:
            chosen[parts[digest]].append(row)
    train, val, test = (np.array(chosen[part], dtype=np.int64) for part in (Part.TRAIN, Part.VAL, Part.TEST))
    return Split(train, val, test)


def folds(images: Images, rows: np.ndarray, *, k: int, seed: int) -> list[Fold]:
    """Stratified folds that partition `rows` (rows of `images`); copies of a picture stay in one fold.

    Raises `DataRefused` where a class has fewer different pictures than folds.
    """
    from sklearn.model_selection import StratifiedKFold  # late: a second to import

    rows = np.sort(np.asarray(rows, dtype=np.int64))
    _, first, content = np.unique([images.digest(row) for row in rows], return_index=True, return_inverse=True)
    labels = images.labels[rows][first]  # (contents,)
    counts = np.bincount(labels, minlength=len(images.classes))
    short = [(images.classes[i], int(n)) for i, n in enumerate(counts) if 0 < n < k]
    if short:
        raise DataRefused(
            f"crossval.folds {k} needs {k} different pictures of each class outside the test part; "
            f"{short[0][0]!r} has {short[0][1]}; use fewer folds or add pictures"
        )
    splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
    found = []
    for _, held_out in splitter.split(np.zeros(len(labels)), labels):
        val = np.isin(content, held_out)
        found.append(Fold(train=rows[~val], val=rows[val]))
    return found


def _stated(digests: Sequence[str], stated: Sequence[Part | None]) -> tuple[dict[str, Part], list[Part]]:
    """Content whose part the source decides, and the parts to be split off the rest."""
    present = {part for part in stated if part is not None}
    if present == {Part.TEST}:
        raise DataRefused("the source has a test folder and nothing to train on; add a train folder beside it")
    pool = Part.TRAIN if Part.TRAIN in present else Part.VAL
    kept = [part for part in STRONGEST if part in present and part != pool]
    fixed: dict[str, Part] = {}
    for part in kept:
        for digest, said in zip(digests, stated, strict=True):
            if said == part:
                fixed.setdefault(digest, part)
    return fixed, [part for part in (Part.TEST, Part.VAL) if part not in kept]


def _remembered(labels: Mapping[str, int], missing: Collection[Part], spec: DatasetSpec, file: Path) -> dict[str, Part]:
    """Content -> part: as decided before where it was, decided now and written down where not."""
    if not missing:
        return dict.fromkeys(labels, Part.TRAIN)
    with whole.locked(file):
        before = _load(file)
        known = {d: before[d] for d in labels if before.get(d) in (Part.TRAIN, *missing)}
        decided = _decide(labels, known, missing, spec)
        after = before | decided
        if after != before:
            whole.write(file, json.dumps(after, indent=0, sort_keys=True).encode())
    return decided


def _decide(
    labels: Mapping[str, int], known: Mapping[str, Part], missing: Collection[Part], spec: DatasetSpec
) -> dict[str, Part]:
    """Each class's new content, in the order of a seeded hash, fills what train, test and val still need."""
    totals = Counter(labels.values())
    fractions = {Part.TEST: spec.test_fraction, Part.VAL: spec.val_fraction}
    wanted = {part: _quotas(totals, fractions[part], len(missing)) for part in missing}
    have = Counter((labels[digest], part) for digest, part in known.items())
    new: dict[int, list[str]] = {label: [] for label in totals}
    for digest in sorted(labels.keys() - known.keys(), key=lambda d: _order(spec.split_seed, d)):
        new[labels[digest]].append(digest)
    decided = dict(known)
    for label, digests in new.items():
        needs = [(Part.TRAIN, 1)] + [(part, wanted[part][label]) for part in missing]
        for part, need in needs:
            take = max(0, need - have[label, part])
            decided.update(dict.fromkeys(digests[:take], part))
            digests = digests[take:]
        decided.update(dict.fromkeys(digests, Part.TRAIN))
    return decided


def _quotas(totals: Mapping[int, int], fraction: float, num_parts: int) -> dict[int, int]:
    """How many of each class to split off: within one of the fraction for each class and in total (largest
    remainders), but at least one where the class has enough for train and every part, and one left for each."""
    exact = {label: fraction * n for label, n in totals.items()}
    quotas = {label: int(share) for label, share in exact.items()}
    left = round(sum(exact.values())) - sum(quotas.values())
    for label in sorted(exact, key=lambda label: (quotas[label] - exact[label], label))[: max(0, left)]:
        quotas[label] += 1
    return {
        label: min(max(quotas[label], 1), n - num_parts) if n > num_parts else min(quotas[label], n - 1)
        for label, n in totals.items()
    }


def _order(seed: int, digest: str) -> str:
    return hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()


def _file_name(images: Images, spec: DatasetSpec) -> str:
    settings = f"seed{spec.split_seed}-val{spec.val_fraction:g}-test{spec.test_fraction:g}"
    return f"{images.snapshot.name}-{settings}.json"


def _load(file: Path) -> dict[str, Part]:
    if not file.exists():
        return {}
    try:
        return {digest: Part(part) for digest, part in json.loads(file.read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        raise DataRefused(
            f"{file} is damaged, so earlier test pictures are not known; restore it, or remove it to split anew"
        ) from None
