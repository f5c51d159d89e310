"""In which order pictures come out of shards, and who decodes which: functions of (seed, epoch) and of numbers alone.

Shards are shuffled, then `WINDOW` of them at a time are opened, and their pictures shuffled as a whole. So a picture
comes anywhere within its window with the same chance, a batch is drawn from `WINDOW` shards that no other epoch puts
together, and no more than these are read at a time, each once an epoch. Where every shard is a sample of the whole, as
those that this project writes are, nothing tells the order from a free one; where shards are sorted by class, a window
has the classes of `WINDOW` shards.
"""

from collections.abc import Iterator

import numpy as np

from data.sampling import ORDER, stream

WINDOW = 8  # shards that are open at a time
JOB = 32  # pictures that a process decodes before it is asked for the next


def windowed(rows: np.ndarray, shards: np.ndarray, *, seed: int, epoch: int, window: int = WINDOW) -> np.ndarray:
    """Every row once. shards: (N,) of all rows, the shard that each lies in."""
    random = stream(seed, epoch, 0, ORDER)
    own = shards[rows]
    present, which = np.unique(own, return_inverse=True)
    turn = random.permutation(len(present)) // window  # of each shard: in which window it comes
    chance = random.permutation(len(rows))
    found: np.ndarray = rows[np.lexsort((chance, turn[which]))]
    return found


def share(total: int, part: int, parts: int) -> slice:
    """Of so many in a row the share of one of several; shares differ by one at most."""
    size, over = divmod(total, parts)
    start = part * size + min(part, over)
    return slice(start, start + size + (part < over))


def jobs(total: int, workers: int) -> Iterator[slice]:
    """So many in a row, in pieces for that many processes; none is longer than `JOB`."""
    pieces = max(min(workers, total), -(-total // JOB))
    return (share(total, piece, pieces) for piece in range(pieces))
