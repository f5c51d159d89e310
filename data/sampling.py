"""Which training pictures an epoch shows, and in which order: a function of (seed, epoch), so nothing is remembered."""

import numpy as np

ORDER, CHANGES, CYCLE, TURN = 1, 2, 5, 6  # which random numbers; dropout and folds are 3 and 4


def natural(rows: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Every row once, shuffled."""
    return stream(seed, epoch, 0, ORDER).permutation(rows)


def balanced(rows: np.ndarray, labels: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """As many rows as there are, of every class equally many, shuffled; labels belong to the rows.

    Over all epochs the classes take turns, and each class goes through its pictures in an order of its own, then in
    another: none comes again before all have come. Numbers of an epoch differ by one where they do not divide.
    """
    first, last = epoch * len(rows), (epoch + 1) * len(rows)
    classes = np.unique(labels)
    picked = []
    for turn, label in enumerate(classes):
        start, end = ((at - turn + len(classes) - 1) // len(classes) for at in (first, last))
        picked.append(draws(rows[labels == label], start, end, seed=seed, label=int(label)))
    return stream(seed, epoch, 0, ORDER).permutation(np.concatenate(picked))


def draws(own: np.ndarray, start: int, end: int, *, seed: int, label: int) -> np.ndarray:
    """From draw `start` to before `end` out of the endless row of a class: all of `own`, shuffled, again and again."""
    cycles = range(start // len(own), -(-end // len(own)))
    if not cycles:
        return own[:0]
    endless = np.concatenate([stream(seed, cycle, label, CYCLE).permutation(own) for cycle in cycles])
    return endless[start - cycles[0] * len(own) : end - cycles[0] * len(own)]


def turns(num: int, *, seed: int, epoch: int) -> np.ndarray:
    """bool (num,): half of all pictures, by chance, in even epochs; all others in odd ones.

    After https://arxiv.org/abs/2404.00498: two epochs show both sides of every picture, where coins show half of them
    the same side twice.
    """
    mirrored: np.ndarray = stream(seed, 0, 0, TURN).integers(2, size=num) == epoch % 2
    return mirrored


def stream(seed: int, epoch: int, step: int, purpose: int) -> np.random.Generator:
    # `purpose` is last and not 0, because numpy takes [1, 2] and [1, 2, 0] for the same entropy.
    return np.random.default_rng([seed, epoch, step, purpose])
