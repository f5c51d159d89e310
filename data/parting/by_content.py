"""By content: each picture by itself, each class for itself."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data import whole
from data.compact import Digests
from data.parting import kept
from data.parting.pool import LEFT_OPEN, STRONGEST, Pool, fraction_of, quotas
from data.spec import DatasetSpec, Part

TRAIN = STRONGEST.index(Part.TRAIN)


def parts(pool: Pool, spec: DatasetSpec, file: Path) -> np.ndarray:
    """(P,) int8, places in `STRONGEST`: as decided before where it was, decided now and written down where not."""
    if not pool.missing:
        return np.full(len(pool), TRAIN, np.int8)
    _, first, content = np.unique(pool.contents, return_index=True, return_inverse=True)
    digests, labels = (
        pool.digests.taken(first),
        pool.labels[first],
    )  # one class for each content, should it have several
    with whole.locked(file):
        before = kept.read(file)
        said = before.of(digests)
        known = np.where(np.isin(said, [TRAIN, *map(STRONGEST.index, pool.missing)]), said, LEFT_OPEN).astype(np.int8)
        decided = _decided(digests, labels, known, pool.missing, spec)
        if (decided != said).any():
            kept.write(file, before.updated(digests, decided))
    return decided[content]


def _decided(
    digests: Digests, labels: np.ndarray, known: np.ndarray, missing: Sequence[Part], spec: DatasetSpec
) -> np.ndarray:
    """Each class's new content, in the order of a seeded hash, fills what train, test and val still need."""
    totals = dict(zip(*(found.tolist() for found in np.unique(labels, return_counts=True)), strict=True))
    wanted = {part: quotas(totals, fraction_of(part, spec), len(missing)) for part in missing}
    decided, new = known.copy(), np.flatnonzero(known == LEFT_OPEN)
    new = new[np.lexsort((_hashes(spec.split_seed, digests.taken(new)), labels[new]))]
    edges = np.searchsorted(labels[new], [*totals, max(totals, default=0) + 1])
    for (label, _), start, end in zip(totals.items(), edges, edges[1:], strict=False):
        of_it = known[labels == label]
        for part in (Part.TRAIN, *missing):
            need = 1 if part is Part.TRAIN else wanted[part][label]
            take = max(0, need - int((of_it == STRONGEST.index(part)).sum()))
            decided[new[start : min(start + take, end)]] = STRONGEST.index(part)
            start = min(start + take, end)
        decided[new[start:end]] = TRAIN
    return decided


def _hashes(seed: int, digests: Digests) -> np.ndarray:
    """(N,) uint64, the beginnings of hashes: an order that depends on the seed and on each by itself."""
    found = (int.from_bytes(hashlib.sha256(f"{seed}:{digest}".encode()).digest()[:8], "big") for digest in digests)
    return np.fromiter(found, np.uint64, len(digests))
