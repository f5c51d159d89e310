"""How many pictures a model is best given at a time, learnt from how long its batches take.

A larger batch may cost less for a picture, and keeps each of its pictures until the last is done. So the best is the
smallest size whose time for a picture is near the lowest: 1 where the pictures are computed one after the other anyway,
as a large network does on a processor; many where they cost little more than one, as on a GPU.
"""

from collections import deque
from math import inf
from statistics import median

NEAR = 1.1  # times the lowest time for a picture
KEPT = 15  # times of each size, whose median counts: others compute on this machine too
REACH = 4  # sizes up to so many times the best are tried; two doublings that gain nothing promise nothing
PROBE_EVERY = 40  # batches under pressure; then another size, to see whether it has become better


class Pace:
    """Of one model; for whoever asks it, one at a time."""

    def __init__(self, most: int) -> None:
        self.sizes: tuple[int, ...] = (*(2**k for k in range((most - 1).bit_length())), most)
        self.best = most  # while nothing is known
        self._kept: dict[int, deque[float]] = {}  # seconds for a picture, by size
        self._medians: dict[int, float] = {}
        self._pressed = 0  # batches while more pictures waited than are taken

    def note(self, pictures: int, seconds: float) -> None:
        """A batch of so many took so long."""
        size = max(size for size in self.sizes if size <= pictures)
        kept = self._kept.setdefault(size, deque(maxlen=KEPT))
        kept.append(seconds / pictures)
        self._medians[size] = median(kept)
        near = NEAR * min(self._medians.values())
        self.best = min(size for size, typical in self._medians.items() if typical <= near)

    @property
    def one_s(self) -> float:
        """Seconds that one picture by itself takes; infinite while that is not known."""
        return self._medians.get(1, inf)

    def limit(self, waiting: int) -> int:
        """How many of the pictures that wait to take at a time."""
        if waiting <= self.best:
            return self.best
        self._pressed += 1
        if self._pressed % PROBE_EVERY:
            return self.best
        others = [size for size in self.sizes if size <= REACH * self.best]
        return others[self._pressed // PROBE_EVERY % len(others)]
