"""Batches of which this process looks at a part, and others at the others: what it does not look at stays undecoded."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import numpy as np

from data.shards.stream import Streamed

Own = Callable[[int], np.ndarray]
"""Pictures in a batch -> the places in it (n,) that are looked at."""


def batches(pixels: Streamed, rows: Sequence[np.ndarray], own: Own | None) -> Generator[np.ndarray]:
    """uint8 (B, H, W, C) for each array of rows, black beside its own part; without one, all of it."""
    places = [np.arange(len(some)) if own is None else own(len(some)) for some in rows]
    asked = [some[there] for some, there in zip(rows, places, strict=True)]
    with closing(pixels.batches(asked)) as decoded:
        for some, there, found in zip(rows, places, decoded, strict=True):
            yield found if own is None else _among(len(some), there, found)


def _among(total: int, places: np.ndarray, found: np.ndarray) -> np.ndarray:
    whole = np.zeros((total, *found.shape[1:]), found.dtype)
    whole[places] = found
    return whole
