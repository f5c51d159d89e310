"""How long a model takes for one picture, beside another one, on a machine that others use too. No torch here."""

import time
from collections.abc import Callable, Sequence

import numpy as np

ROUNDS = 60
LONGEST_S = 3.0  # no round begins after that
WARM = 2  # rounds that do not count

Ask = Callable[[bytes], object]
"""A picture's file -> whatever the model says of it."""


def in_turns(asks: Sequence[Ask], files: Sequence[bytes]) -> np.ndarray:
    """Seconds (rounds, len(asks)): each is given the same file, one after the other, so that whatever slows the machine
    down slows them alike."""
    for file in files[:WARM]:
        for ask in asks:
            ask(file)
    rounds: list[list[float]] = []
    began = time.perf_counter()
    while len(rounds) < ROUNDS and (not rounds or time.perf_counter() - began < LONGEST_S):
        file = files[len(rounds) % len(files)]
        rounds.append([_timed(ask, file) for ask in asks])
    return np.array(rounds)


def _timed(ask: Ask, file: bytes) -> float:
    began = time.perf_counter()
    ask(file)
    return time.perf_counter() - began
