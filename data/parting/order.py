"""An order of contents that depends on the seed and on each by itself, and not on what else there is."""

import hashlib

import numpy as np

from data.compact import Digests


def hashes(seed: int, digests: Digests) -> np.ndarray:
    """(N,) uint64, the beginnings of hashes."""
    found = (int.from_bytes(hashlib.sha256(f"{seed}:{digest}".encode()).digest()[:8], "big") for digest in digests)
    return np.fromiter(found, np.uint64, len(digests))
