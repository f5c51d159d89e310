"""By content: each picture by itself, or with those that are nearly the same, and each class for itself."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.parting.alike import followers
from data.parting.pool import Pool, fraction_of, in_order, quotas, remembered
from data.spec import DatasetSpec, Part


def parts(pool: Pool, spec: DatasetSpec, file: Path) -> Sequence[Part | None]:
    """(P,): as decided before where it was, decided now and written down where not."""
    if not pool.missing:
        return [Part.TRAIN] * len(pool.digests)
    labels: dict[str, int] = {}  # one for each content, should it have several
    for digest, label in zip(pool.digests, pool.labels, strict=True):
        labels.setdefault(digest, label)

    def decide(before: Mapping[str, Part]) -> dict[str, Part]:
        known = {digest: before[digest] for digest in labels if before.get(digest) in (Part.TRAIN, *pool.missing)}
        follows = followers(pool.alike, labels, known, spec.split_seed)
        leading = {digest: label for digest, label in labels.items() if digest not in follows}
        parts = _decide(leading, known, pool.missing, spec)
        return parts | {digest: parts[leader] for digest, leader in follows.items()}

    decided = remembered(file, decide, read=Part)
    return [decided[digest] for digest in pool.digests]


def _decide(
    labels: Mapping[str, int], known: Mapping[str, Part], missing: Sequence[Part], spec: DatasetSpec
) -> dict[str, Part]:
    """Each class's new content, in the order of a seeded hash, fills what train, test and val still need."""
    totals = Counter(labels.values())
    wanted = {part: quotas(totals, fraction_of(part, spec), len(missing)) for part in missing}
    have = Counter((labels[digest], part) for digest, part in known.items())
    new: dict[int, list[str]] = {label: [] for label in totals}
    for digest in sorted(labels.keys() - known.keys(), key=lambda d: in_order(spec.split_seed, d)):
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
