"""All pairs of 64-bit hashes within a Hamming distance, without comparing each with each.

The bits are divided into `bits + CLEAN` bands. Two hashes that differ in at most `bits` places agree wholly in at least
`CLEAN` bands (pigeonhole), so it is enough to compare, for every choice of `CLEAN` bands, those that agree in these:
sort by them, and look at neighbours. With one band (`CLEAN` 1) the keys would be so short that nearly all agree.
Multi-index hashing: https://arxiv.org/abs/1307.2982; here each key joins several bands.
"""

from itertools import combinations, pairwise

import numpy as np

CLEAN = 3  # bands that a key joins: 165 keys of 17 bits for 8 bits
MOST_PAIRS = 4_000_000  # kept; a film of one scene has more pairs than pictures squared over two


def pairs_within(hashes: np.ndarray, bits: int, *, most: int = MOST_PAIRS) -> tuple[np.ndarray, bool]:
    """Positions (P, 2) int64, the lower first, of hashes (N,) uint64 that differ in at most `bits` places, each once.

    Equal hashes are paired each with the next alone, and the first stands for all of them: a picture that is there N
    times would have N squared pairs. False beside the pairs where there are more than `most`, and some are missing.
    """
    distinct, first = np.unique(hashes, return_index=True)
    order = np.argsort(hashes, kind="stable")
    equal = hashes[order][1:] == hashes[order][:-1]
    chained = np.stack([order[:-1][equal], order[1:][equal]], axis=1)
    near, complete = _near(distinct, bits, most) if bits else (np.zeros((0, 2), np.int64), True)
    found = np.concatenate([chained, np.sort(first[near], axis=1)]).astype(np.int64)
    return found, complete


def _near(hashes: np.ndarray, bits: int, most: int) -> tuple[np.ndarray, bool]:
    """The same, of hashes that all differ."""
    num = len(hashes)
    edges = np.linspace(0, 64, bits + CLEAN + 1).round().astype(int).tolist()
    bands = [((1 << high) - 1) ^ ((1 << low) - 1) for low, high in pairwise(edges)]
    found, pending = [np.zeros(0, np.int64)], 0  # first * num + second, some several times
    for chosen in combinations(bands, CLEAN):
        found.append(_neighbours(hashes, hashes & np.uint64(sum(chosen)), bits, most))
        pending += len(found[-1])
        if pending > most:
            found = [np.unique(np.concatenate(found))]
            pending = len(found[0])
            if pending > most:
                break
    codes = np.unique(np.concatenate(found))
    return np.stack([codes[:most] // num, codes[:most] % num], axis=1), len(codes) <= most


def _neighbours(hashes: np.ndarray, keys: np.ndarray, bits: int, most: int) -> np.ndarray:
    """first * N + second of all pairs of equal keys (N,) whose hashes are within `bits`; little over `most` of them."""
    num = len(hashes)
    order = np.argsort(keys)
    keys, hashes = keys[order], hashes[order]
    left, apart, total, found = np.arange(num), 0, 0, [np.zeros(0, np.int64)]
    while len(left) and total <= most:
        apart += 1
        left = left[: np.searchsorted(left, num - apart)]
        left = left[keys[left] == keys[left + apart]]
        close = left[np.bitwise_count(hashes[left] ^ hashes[left + apart]) <= bits]
        one, other = order[close], order[close + apart]
        found.append(np.minimum(one, other) * num + np.maximum(one, other))
        total += len(one)
    return np.concatenate(found)
