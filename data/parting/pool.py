"""The pictures that are to be divided, how many of them each part is to have, and what was decided before."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from data import whole
from data.compact import Coded, Digests, Texts
from data.errors import DataRefused
from data.images import Images
from data.snapshot import Snapshot
from data.spec import DatasetSpec, Part

By = Literal["content", "group", "time"]
Kept = TypeVar("Kept", bound=str)

STRONGEST = (Part.TEST, Part.VAL, Part.TRAIN)  # where the same content is stated twice, the first of these keeps it


LEFT_OPEN = -1  # instead of a part's place in `STRONGEST`: none, or none yet


@dataclass(frozen=True)
class Pool:
    """P pictures whose part the source does not decide, several of one content among them."""

    digests: Digests  # (P,)
    contents: np.ndarray  # (P,) int: the same number for the same content
    labels: np.ndarray  # (P,) int
    groups: Sequence[str | None]  # (P,), or empty
    times: Sequence[str | None]  # (P,), or empty
    stated: np.ndarray  # (P,) int8: the part that is being divided, or LEFT_OPEN
    taken: Mapping[str, Part]  # group -> the strongest part that the source states of it
    missing: Sequence[Part]  # what is to be split off from train
    alike: Sequence[np.ndarray] = ()  # groups that are nearly the same: places (P,)

    @classmethod
    def of(
        cls,
        images: Images,
        here: np.ndarray,
        *,
        stated: np.ndarray,
        taken: Mapping[str, Part],
        missing: Sequence[Part],
        alike: Sequence[np.ndarray],
    ) -> "Pool":
        """The rows `here` of the images."""
        snapshot, rows = images.snapshot, images.rows[here]
        return cls(
            digests=snapshot.hashed.taken(rows),
            contents=snapshot.contents[rows],
            labels=snapshot.labels[rows],
            groups=Coded.of(snapshot.groups).taken(rows) if snapshot.groups else (),
            times=Texts.of(snapshot.times).taken(rows) if snapshot.times else (),
            stated=stated,
            taken=taken,
            missing=missing,
            alike=alike,
        )

    def __len__(self) -> int:
        return len(self.labels)


def strengths(snapshot: Snapshot) -> np.ndarray:
    """(N,) int8: what the source says, as places in `STRONGEST`; `LEFT_OPEN` where it says nothing."""
    return snapshot.stated.by(lambda part: LEFT_OPEN if part is None else STRONGEST.index(part)).astype(np.int8)


def coded(parts: Iterable[Part | None]) -> np.ndarray:
    """The same, of parts one by one."""
    return np.fromiter((LEFT_OPEN if part is None else STRONGEST.index(part) for part in parts), np.int8)


def way_of(snapshot: Snapshot, spec: DatasetSpec) -> By:
    """How its pictures are divided. Raises `DataRefused` where they do not have what that needs."""
    by: By = spec.split_by or ("group" if snapshot.groups else "content")
    if by == "group" and not snapshot.groups:
        raise DataRefused(
            "dataset.split_by is group, and no picture has one; give the listing a column group, or say with "
            "dataset.group where the path tells it"
        )
    if by == "time" and not snapshot.times:
        raise DataRefused("dataset.split_by is time, and no picture has one; give the listing a column time")
    return by


def file_of(images: Images, spec: DatasetSpec, home: Path) -> Path:
    """Where it is written down. Another way of dividing is another file: its parts are others."""
    by = way_of(images.snapshot, spec)
    way = "" if by == "content" else f"-{by}"
    return home / "datasets" / "splits" / f"{images.snapshot.name}-{spec.split_name}{way}.json"


def remembered(
    file: Path, decide: Callable[[Mapping[str, Kept]], dict[str, Kept]], *, read: Callable[[str], Kept]
) -> dict[str, Kept]:
    """What `decide` makes of all that was decided before, and written down beside it. `read` makes a value of its text.
    Raises `DataRefused`."""
    with whole.locked(file):
        before = _load(file, read)
        decided = decide(before)
        after = before | decided
        if after != before:
            whole.write(file, json.dumps(after, indent=0, sort_keys=True).encode())
    return decided


def quotas(totals: Mapping[int, int], fraction: float, num_parts: int) -> dict[int, int]:
    """How many of each class to split off: within one of the fraction for each class and in total (largest
    remainders), but at least one where the class has enough for train and every part, and one left for each."""
    exact = {label: fraction * n for label, n in totals.items()}
    found = {label: int(share) for label, share in exact.items()}
    left = round(sum(exact.values())) - sum(found.values())
    for label in sorted(exact, key=lambda label: (found[label] - exact[label], label))[: max(0, left)]:
        found[label] += 1
    return {
        label: min(max(found[label], 1), n - num_parts) if n > num_parts else min(found[label], n - 1)
        for label, n in totals.items()
    }


def together(content: np.ndarray, groups: Sequence[str | None]) -> np.ndarray:
    """Pictures (N,), numbered by content -> number of each content (contents,): one number for all that groups hold
    together, and groups that share a content are one."""
    from scipy.sparse import coo_matrix  # late: a second to import
    from scipy.sparse.csgraph import connected_components

    num = int(content.max()) + 1 if len(content) else 0
    known = {group: num + i for i, group in enumerate(dict.fromkeys(group for group in groups if group))}
    links = [(int(one), known[group]) for one, group in zip(content, groups, strict=True) if group]
    ends = np.array(links, np.int64).reshape(-1, 2)
    size = num + len(known)
    graph = coo_matrix((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(size, size))
    numbers: np.ndarray = connected_components(graph, directed=False)[1][:num]
    return numbers


def fraction_of(part: Part, spec: DatasetSpec) -> float:
    return spec.test_fraction if part is Part.TEST else spec.val_fraction


def in_order(seed: int, digest: str) -> str:
    """Sort key: an order that depends on the seed and on each by itself, and not on what else there is."""
    return hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()


def _load(file: Path, read: Callable[[str], Kept]) -> dict[str, Kept]:
    if not file.exists():
        return {}
    try:
        return {key: read(text) for key, text in json.loads(file.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise damaged(file) from None


def damaged(file: Path) -> DataRefused:
    return DataRefused(
        f"{file} is damaged, so earlier test pictures are not known; restore it, or remove it to split anew"
    )
