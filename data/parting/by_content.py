"""By content: each picture by itself, or with those that are nearly the same, and each class for itself."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data import whole
from data.compact import Digests
from data.parting import kept
from data.parting.alike import followers
from data.parting.order import hashes
from data.parting.pool import LEFT_OPEN, STRONGEST, Pool, fraction_of, quotas
from data.spec import DatasetSpec, Part

TRAIN = STRONGEST.index(Part.TRAIN)


def parts(pool: Pool, spec: DatasetSpec, file: Path) -> np.ndarray:
    """(P,) int8, places in `STRONGEST`: as decided before where it was, decided now and written down where not."""
    if not pool.missing:
        return np.full(len(pool), TRAIN, np.int8)
    _, first, content = np.unique(pool.contents, return_index=True, return_inverse=True)
    digests, labels = pool.digests.taken(first), pool.labels[first]  # one class for a content, should it have several
    with whole.locked(file):
        before = kept.read(file)
        said = before.of(digests)
        known = np.where(np.isin(said, [TRAIN, *map(STRONGEST.index, pool.missing)]), said, LEFT_OPEN).astype(np.int8)
        groups = [np.unique(content[positions]) for positions in pool.alike]
        leader = followers(groups, digests, labels, known, spec.split_seed)
        leads = np.flatnonzero(leader == np.arange(len(leader)))
        decided = known.copy()
        decided[leads] = _decided(digests.taken(leads), labels[leads], known[leads], pool.missing, spec)
        decided = decided[leader]
        if (decided != said).any():
            kept.write(file, before.updated(digests, decided))
    parts: np.ndarray = decided[content]
    return parts


def _decided(
    digests: Digests, labels: np.ndarray, known: np.ndarray, missing: Sequence[Part], spec: DatasetSpec
) -> np.ndarray:
    """Each class's new content, in the order of a seeded hash, fills what train, test and val still need."""
    totals = dict(zip(*(found.tolist() for found in np.unique(labels, return_counts=True)), strict=True))
    wanted = {part: quotas(totals, fraction_of(part, spec), len(missing)) for part in missing}
    decided, new = known.copy(), np.flatnonzero(known == LEFT_OPEN)
    new = new[np.lexsort((hashes(spec.split_seed, digests.taken(new)), labels[new]))]
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
