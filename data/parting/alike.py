"""Contents that are nearly the same, kept in one part: where it is decided of one of them, the others follow it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from data.parting.pool import STRONGEST, in_order
from data.spec import Part

MOST = 0.2  # of a class: what is more is no copy but the kind of picture, and would leave nothing for the other parts


def followers(
    groups: Sequence[Sequence[str]], labels: Mapping[str, int], known: Mapping[str, Part], seed: int
) -> dict[str, str]:
    """Content -> the one of its group into whose part it goes. What is `known` follows nobody, and is followed: where
    it lies in several parts, that in the strongest; where nothing of a group is, the first in the order of the seed."""
    totals, found = Counter(labels.values()), dict[str, str]()
    for group in groups:
        counts = Counter(labels[digest] for digest in group)
        if any(number > MOST * totals[label] for label, number in counts.items()):
            continue
        told = [digest for part in STRONGEST for digest in group if known.get(digest) is part]
        leader = (told or sorted(group, key=lambda digest: in_order(seed, digest)))[0]
        found |= {digest: leader for digest in group if digest != leader and digest not in known}
    return found
