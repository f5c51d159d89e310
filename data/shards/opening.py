"""A snapshot whose pictures lie in shards -> its readable pictures, without decoding them into a cache.

All of them are decoded once, to know which can be read; what is kept of that is the list of those that cannot.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from data import progress as progress_
from data import whole
from data.decode import Refusals
from data.images import Images, Unreadable, folder_of
from data.progress import Progress
from data.shards.stream import Streamed
from data.snapshot import Snapshot
from data.spec import ImageSpec

UNREADABLE = "streamed.json"
CHUNK = 256  # pictures


def build(
    snapshot: Snapshot, image: ImageSpec, home: Path, *, anew: bool = False, progress: Progress | None = None
) -> Images:
    """As `images.build`, but that its pixels are decoded when they are asked for. Raises `ShardUnreadable`: of such a
    shard it is not known which of its pictures can be read, so that nothing is kept of it."""
    file = folder_of(snapshot, image, home) / UNREADABLE
    with whole.locked(file):
        refused = None if anew else _known(file, len(snapshot.files))
        if refused is None:
            refused = _refused(snapshot, image, progress or progress_.ignore)
            whole.write(file, json.dumps(refused).encode())
    rows = np.delete(np.arange(len(snapshot.files), dtype=np.int64), [row for row, _ in refused])
    unreadable = tuple(Unreadable(snapshot.files[row], reason) for row, reason in refused)
    pixels = cast(np.ndarray, Streamed(snapshot, rows, image))  # of an array it has what is asked of pixels
    return Images(snapshot, image, rows, pixels, unreadable)


def keep(images: Images, rows: np.ndarray, home: Path, *, progress: Progress | None = None) -> Images:
    """The same pictures, of which `rows` are decoded once, into a file that is mapped."""
    pixels = cast(Streamed, images.pixels)
    rows = np.sort(rows)
    called = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:24]
    file = folder_of(images.snapshot, images.spec, home) / f"kept-{called}.u8"
    shape = (len(rows), *images.pixels.shape[1:])
    with whole.locked(file):
        if len(rows) and not (file.exists() and file.stat().st_size == int(np.prod(shape))):
            _write(file, pixels, rows, progress or progress_.ignore)
    kept = Streamed(images.snapshot, images.rows, images.spec)
    if len(rows):
        kept.keeping(rows, np.memmap(file, np.uint8, "r", shape=shape))
    return replace(images, pixels=cast(np.ndarray, kept))


def _refused(snapshot: Snapshot, image: ImageSpec, progress: Progress) -> Refusals:
    everything = Streamed(snapshot, np.arange(len(snapshot.files), dtype=np.int64), image)
    refused: Refusals = []
    done, total = 0, len(everything)
    for part, some in everything.refusals(everything.parts(CHUNK)):
        refused += some
        done += len(part)
        progress("decode", done, total)
    return sorted(refused)


def _write(file: Path, pixels: Streamed, rows: np.ndarray, progress: Progress) -> None:
    """In the order in which they lie: in that of the rows, a few pictures may be of as many shards."""
    done = 0
    with whole.file(file) as out:
        for slots, some in pixels.lying(CHUNK, rows):
            for slot, picture in zip(slots.tolist(), some, strict=True):
                out.seek(slot * picture.nbytes)
                out.write(picture.tobytes())
            done += len(slots)
            progress("validation and test", done, len(rows))


def _known(file: Path, num: int) -> Refusals | None:
    try:
        refused = [(int(row), str(reason)) for row, reason in json.loads(file.read_bytes())]
    except (OSError, ValueError, TypeError):
        return None
    return refused if all(0 <= row < num for row, _ in refused) else None
