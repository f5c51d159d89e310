"""How long two ways to answer take, in turns, so that whatever else the machine does slows both. No torch here."""

import time
from collections.abc import Callable, Sequence

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]


def in_turns(ways: Sequence[Predict], pixels: np.ndarray, *, rounds: int, within_s: float = float("inf")) -> np.ndarray:
    """Seconds (rounds, ways) for `pixels`, after one that does not count; fewer rounds, at least one, than fit into
    `within_s`."""
    for way in ways:
        way(pixels)
    found: list[list[float]] = []
    until = time.perf_counter() + within_s
    while not found or (len(found) < rounds and time.perf_counter() < until):
        taken = []
        for way in ways:
            begun = time.perf_counter()
            way(pixels)
            taken.append(time.perf_counter() - begun)
        found.append(taken)
    return np.array(found)
