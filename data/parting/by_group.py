"""By group: all pictures of a patient, a camera or a session in one part, and the classes spread as evenly as that
allows."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.errors import DataRefused
from data.parting.pool import LEFT_OPEN, STRONGEST, Pool, coded, fraction_of, in_order, quotas, remembered
from data.spec import DatasetSpec, Part

TRAIN = STRONGEST.index(Part.TRAIN)
EVERY = -1  # instead of a class: pictures of any


def parts(pool: Pool, spec: DatasetSpec, file: Path) -> np.ndarray:
    """(P,) int8, places in `STRONGEST`: as decided before where it was, decided now and written down where not.

    A picture without a group is one by itself. What the source leaves open of a group goes where it states the rest. Of
    a content that several groups have, what lies in another part than it (test before val before train) is in none.
    """
    found = coded(
        pool.taken.get(group) if group and said == LEFT_OPEN else None
        for group, said in zip(pool.groups, pool.stated.tolist(), strict=True)
    )
    if not pool.missing:
        return np.where(found == LEFT_OPEN, TRAIN, found).astype(np.int8)
    rows = np.flatnonzero(found == LEFT_OPEN).tolist()
    units = _units(pool, rows)
    decided = remembered(file, lambda before: _decide(units, before, pool.missing, spec), read=Part)
    homes = {group: decided[key_of(group)] for group in {pool.groups[row] for row in rows} if group}
    for row in rows:
        group, part = pool.groups[row], decided[pool.digests[row]]
        if not group or homes[group] == part:
            found[row] = STRONGEST.index(part)
    return found


@dataclass
class Unit:
    """What stays together."""

    labels: dict[str, int] = field(default_factory=dict)  # content -> class, one where it has several

    @property
    def counts(self) -> Counter[int]:
        return Counter(self.labels.values())


def key_of(group: str) -> str:
    """By which it is remembered: names of people do not belong into another file."""
    return f"group:{hashlib.sha256(group.encode()).hexdigest()}"


def _units(pool: Pool, rows: Sequence[int]) -> dict[str, Unit]:
    """By their keys: of a group, or the digest of a content that is in none."""
    units: dict[str, Unit] = defaultdict(Unit)
    grouped = {pool.digests[row] for row in rows if pool.groups[row]}
    keys = {group: key_of(group) for group in {pool.groups[row] for row in rows} if group}
    for row in rows:
        group, digest = pool.groups[row], pool.digests[row]
        if group or digest not in grouped:
            units[keys[group] if group else digest].labels.setdefault(digest, int(pool.labels[row]))
    return dict(units)


def _decide(
    units: Mapping[str, Unit], before: Mapping[str, Part], missing: Sequence[Part], spec: DatasetSpec
) -> dict[str, Part]:
    """Key of each unit and digest of each content -> part."""
    allowed = (Part.TRAIN, *missing)
    if len(units) < len(allowed):
        raise DataRefused(
            f"a split by group needs at least {len(allowed)} groups for {', '.join(allowed)}, and there are "
            f"{len(units)}; add groups, or set dataset.split_by to content"
        )
    known: dict[str, Part] = {}
    for key, unit in units.items():
        said = before.get(key)
        inherited = {before[digest] for digest in unit.labels if before.get(digest) in allowed}
        if said is not None and said in allowed:
            known[key] = said
        elif inherited:  # of a group that had another name
            known[key] = _strongest(inherited)
    decided = _Placing(units, known, missing, spec).all()
    homes: dict[str, set[Part]] = defaultdict(set)
    for key, unit in units.items():
        for digest in unit.labels:
            homes[digest].add(decided[key])
    contents = {d: before[d] if before.get(d) in allowed else _strongest(parts) for d, parts in homes.items()}
    return contents | decided


def _strongest(found: set[Part]) -> Part:
    return next(part for part in STRONGEST if part in found)


class _Placing:
    """New units, one after the other in the order of a seeded hash, each into the part that lacks most of what it has.

    Every class comes into train, test and val, as far as its units are enough for that. What a part has too much or too
    little of a class in the end is about as much as its largest group has.
    """

    def __init__(
        self, units: Mapping[str, Unit], known: Mapping[str, Part], missing: Sequence[Part], spec: DatasetSpec
    ) -> None:
        self.units, self.decided, self.parts = units, dict(known), (Part.TRAIN, *missing)
        self.order = sorted(units.keys() - known.keys(), key=lambda key: in_order(spec.split_seed, key))
        self.counts = {key: unit.counts for key, unit in units.items()}
        self.totals = Counter(label for unit in units.values() for label in unit.labels.values())
        self.lacks = {part: Counter(quotas(self.totals, fraction_of(part, spec), len(missing))) for part in missing}
        self.lacks[Part.TRAIN] = Counter(self.totals)
        for part in missing:
            self.lacks[Part.TRAIN].subtract(self.lacks[part])
        self.present: set[tuple[Part, int]] = set()  # parts that have a class
        self.waiting = Counter(label for key in self.order for label in (EVERY, *self.counts[key]))
        for key, part in known.items():
            self._put(key, part)

    def all(self) -> dict[str, Part]:
        for key in self.order:
            counts = self.counts[key]
            part = min(self._open_to(counts), key=lambda part: (self._cost(counts, part), self.parts.index(part)))
            self.waiting.subtract((EVERY, *counts))
            self._put(key, part)
            self.decided[key] = part
        return self.decided

    def _put(self, key: str, part: Part) -> None:
        self.lacks[part].subtract(self.counts[key])
        self.present.update((part, label) for label in (EVERY, *self.counts[key]))

    def _cost(self, counts: Counter[int], part: Part) -> float:
        """By how much the sum of squares of what is lacking grows, in shares of each class."""
        lacks = self.lacks[part]
        return sum(n * (n - 2 * lacks[label]) / self.totals[label] for label, n in counts.items())

    def _open_to(self, counts: Counter[int]) -> Sequence[Part]:
        """All parts, but where the units that are left are just enough: those that have none of a class yet."""
        found = self.parts
        for label in sorted((EVERY, *counts), key=lambda label: self.waiting[label] if label != EVERY else 0):
            without = tuple(part for part in self.parts if (part, label) not in self.present)
            if without and self.waiting[label] <= len(without):
                last = self.waiting[label] == 1 and Part.TRAIN in without
                needing = tuple(part for part in ((Part.TRAIN,) if last else without) if part in found)
                found = needing or found
        return found
