"""By time: the newest pictures are the test, those before them validation, so that a model is asked about days that it
has not seen, as it will be in service."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.errors import DataRefused
from data.gate.words import count
from data.parting.pool import Pool, coded, fraction_of, remembered
from data.spec import DatasetSpec, Part
from data.times import at

TEXT = "S32"  # of a time, as `data.times.at` writes it


def parts(pool: Pool, spec: DatasetSpec, file: Path) -> np.ndarray:
    """(P,) int8, places in `STRONGEST`: by two days that are decided once and written down, so that all that is newer
    later on is test. Of a content that several pictures have, the earliest counts."""
    if not pool.missing:
        return coded([Part.TRAIN]).repeat(len(pool))
    if without := sum(one is None for one in pool.times):
        raise DataRefused(
            f"dataset.split_by is time, and {count(without, 'picture')} without one; give each line of the listing a "
            "time"
        )
    texts = np.fromiter((str(time).encode() for time in pool.times), TEXT, len(pool))
    distinct, place = np.unique(texts, return_inverse=True)
    _, content = np.unique(pool.contents, return_inverse=True)
    first = np.full(int(content.max(initial=-1)) + 1, len(distinct))
    np.minimum.at(first, content, place)
    times = [text.decode() for text in distinct.tolist()]
    pictures = Counter({time: n for time, n in zip(times, np.bincount(first).tolist(), strict=False) if n})
    begins = remembered(file, lambda before: _begins(pictures, before, pool.missing, spec), read=at)
    later = sorted(((begin, Part(part)) for part, begin in begins.items()), reverse=True)
    of_time = coded(next((part for begin, part in later if time >= begin), Part.TRAIN) for time in times)
    found: np.ndarray = of_time[first[content]]
    if len(found) and not (found == coded([Part.TRAIN])).any():  # what was there before is gone
        raise DataRefused(
            f"all {count(len(pool), 'picture')} to be split by time are from {times[0]} on, and so newer "
            "than what is trained on; set another dataset.split_seed, which chooses the days anew"
        )
    return found


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
