"""By time: the newest pictures are the test, those before them validation, so that a model is asked about days that it
has not seen, as it will be in service."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.errors import DataRefused
from data.gate.words import count
from data.parting.pool import Pool, fraction_of, remembered
from data.spec import DatasetSpec, Part
from data.times import at


def parts(pool: Pool, spec: DatasetSpec, file: Path) -> Sequence[Part | None]:
    """(P,): by two days that are decided once and written down, so that all that is newer later on is test. Of a
    content that several pictures have, the earliest counts."""
    if not pool.missing:
        return [Part.TRAIN] * len(pool.digests)
    first: dict[str, str] = {}
    for digest, time in zip(pool.digests, pool.times, strict=True):
        if time is None:
            without = count(sum(one is None for one in pool.times), "picture")
            raise DataRefused(
                f"dataset.split_by is time, and {without} without one; give each line of the listing a time"
            )
        first[digest] = min(time, first.get(digest, time))
    begins = remembered(file, lambda before: _begins(Counter(first.values()), before, pool.missing, spec), read=at)
    later = sorted(((begin, Part(part)) for part, begin in begins.items()), reverse=True)
    return [next((part for begin, part in later if first[digest] >= begin), Part.TRAIN) for digest in pool.digests]


def _begins(
    pictures: Counter[str], before: Mapping[str, str], missing: Sequence[Part], spec: DatasetSpec
) -> dict[str, str]:
    """Part -> its first time; of those that were decided for the same parts before, nothing is changed."""
    if before.keys() >= set(missing):
        return {part: before[part] for part in missing}
    times = sorted(pictures)
    if len(times) <= len(missing):
        raise DataRefused(
            f"a split by time needs pictures of at least {len(missing) + 1} times, and there are {len(times)}; "
            "add later ones, or set dataset.split_by to content"
        )
    found: dict[str, str] = {}
    for part in (one for one in (Part.TEST, Part.VAL) if one in missing):  # the newest first
        wanted = fraction_of(part, spec) * pictures.total()
        cut = _cut(times, pictures, wanted, least=len(missing) - len(found))
        found[part], times = times[cut], times[:cut]
    return found


def _cut(times: Sequence[str], pictures: Mapping[str, int], wanted: float, *, least: int) -> int:
    """Where the last of the times begin that hold about so many pictures; so many times are left at least."""
    best, have, error = len(times) - 1, 0, float("inf")
    for i in range(len(times) - 1, least - 1, -1):
        have += pictures[times[i]]
        if abs(have - wanted) >= error:
            break
        best, error = i, abs(have - wanted)
    return best
