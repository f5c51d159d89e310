"""Contents that are nearly the same, kept in one part: where it is decided of one of them, the others follow it."""

from collections.abc import Sequence

import numpy as np

from data.compact import Digests
from data.parting.order import hashes
from data.parting.pool import LEFT_OPEN

MOST = 0.2  # of a class: what is more is no copy but the kind of picture, and would leave nothing for the other parts


def followers(
    groups: Sequence[np.ndarray], digests: Digests, labels: np.ndarray, known: np.ndarray, seed: int
) -> np.ndarray:
    """(C,) int64: the content into whose part each one goes, mostly its own; groups of places among the C.

    What is `known` (places in `STRONGEST`) follows nobody, and is followed: where it lies in several parts, that in the
    strongest; where nothing of a group is, the first in the order of the seed.
    """
    leader, most = np.arange(len(digests)), MOST * np.bincount(labels)
    for group in groups:
        told = group[known[group] != LEFT_OPEN]
        if not len(group) or (np.bincount(labels[group], minlength=len(most)) > most).any():
            continue
        strongest = told[np.argmin(known[told])] if len(told) else group[np.argmin(hashes(seed, digests.taken(group)))]
        leader[np.setdiff1d(group, told)] = strongest
    return leader
