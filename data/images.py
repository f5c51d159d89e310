"""Decoded pictures: one memory-mapped uint8 file per content and geometry."""

import hashlib
import json
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import PIL

from data import filling, whole
from data import progress as progress_
from data.compact import chunks
from data.decode import Refusals
from data.errors import DataRefused, PictureChanged, UnreadableImage
from data.preprocess import PREPROCESS_VERSION, Header, read_header
from data.progress import Progress
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec

SAMPLE = 500  # pictures whose headers decide the geometry
LARGEST_SIZE = 96  # pixels, unless asked for; what 2 CPU cores can train on
SMALLEST_SIZE = 8
GRANULE = 4  # sizes from GRANULE_FROM on are multiples of it, so that patches and strides divide them
GRANULE_FROM = 16


@dataclass(frozen=True)
class Unreadable:
    file: str
    reason: str


@dataclass(frozen=True)
class Images:
    """The readable pictures of a snapshot, M <= N rows in the snapshot's order."""

    snapshot: Snapshot
    spec: ImageSpec
    rows: np.ndarray  # (M,) int64: which rows of the snapshot these are
    pixels: np.ndarray  # (M, stored_height, stored_width, C) uint8, read-only memory map
    unreadable: tuple[Unreadable, ...]

    @property
    def labels(self) -> np.ndarray:
        """(M,) int64."""
        labels: np.ndarray = self.snapshot.labels[self.rows].astype(np.int64, copy=False)
        return labels

    @property
    def classes(self) -> tuple[str, ...]:
        return self.snapshot.classes

    def path(self, row: int) -> Path:
        """The picture's file; `row` counts readable pictures."""
        return self.snapshot.path(int(self.rows[row]))

    def content(self, row: int) -> bytes | Path:
        """Its bytes, or its file where it has one."""
        return self.snapshot.content(int(self.rows[row]))

    def digest(self, row: int) -> str:
        return self.snapshot.digests[int(self.rows[row])]

    def group(self, row: int) -> str | None:
        return self.snapshot.groups[int(self.rows[row])] if self.snapshot.groups else None

    def time(self, row: int) -> str | None:
        return self.snapshot.times[int(self.rows[row])] if self.snapshot.times else None


def choose_spec(snapshot: Snapshot, spec: DatasetSpec) -> ImageSpec:
    """The geometry: what `spec` says, and the rest from the headers of at most `SAMPLE` pictures.

    Size: the median shorter side, from `SMALLEST_SIZE` to `spec.max_size` or `LARGEST_SIZE`.
    Channels: 1 if every picture is grey. Margin: none, so that the network is shown the whole picture.
    Raises `DataRefused` if no header can be read.
    """
    if spec.size is not None and spec.channels is not None:
        size, channels = spec.size, spec.channels
    else:
        headers = _sample_headers(snapshot)
        side = int(statistics.median(min(header.width, header.height) for header in headers))
        size = spec.size or _choose_size(side, largest=spec.max_size or LARGEST_SIZE)
        channels = spec.channels or _choose_channels(headers)
    return ImageSpec(height=size, width=size, channels=channels, margin=spec.margin, fit=spec.fit)


def _sample_headers(snapshot: Snapshot) -> list[Header]:
    num = len(snapshot.files)
    headers, reason = [], "there is none"
    rows = np.unique(np.linspace(0, num - 1, min(num, SAMPLE)).astype(int))  # the rows are ordered by class
    rows = rows[snapshot.order(rows)]
    for row, content in zip(rows.tolist(), snapshot.contents_of(rows), strict=True):
        try:
            headers.append(read_header(content))
        except UnreadableImage as error:
            reason = f"{snapshot.files[row]}: {error}"
    if not headers:
        raise DataRefused(f"none of the pictures of {snapshot.name} can be read ({reason}); check the source")
    return headers


def _choose_size(side: int, *, largest: int) -> int:
    size = min(max(side, SMALLEST_SIZE), largest)
    return size - size % GRANULE if size >= GRANULE_FROM else size


def _choose_channels(headers: list[Header]) -> Literal[1, 3]:
    return 1 if all(header.grey for header in headers) else 3


def build(
    snapshot: Snapshot, image: ImageSpec, home: Path, *, anew: bool = False, progress: Progress | None = None
) -> Images:
    """Decode every picture of the snapshot, or open what was decoded before, unless it is to be done `anew`.

    The result lies in `home/images/<key>/`, whole or not at all; the key is made of contents, not of names. Unreadable
    pictures are left out and listed. Two builders of one key take turns, and the second finds the work done. What a
    builder had done when it was stopped or killed is not done again, unless `anew`. Raises `SourceError` for a file
    that has changed since it was listed, and then lets the snapshot be taken anew, or that cannot be read.
    """
    folder = folder_of(snapshot, image, home)
    images = _open(folder, snapshot, image)
    if images is not None and not anew:
        return images
    with whole.locked(folder) as lock:
        images = _open(folder, snapshot, image)  # another builder may have had the lock before
        if images is not None and not anew:
            return images
        shutil.rmtree(folder, ignore_errors=True)  # damaged since it was written; whoever has it open keeps it
        with whole.resumable(folder, anew=anew) as part:
            try:
                filling.fill(part, snapshot, image, progress or progress_.ignore, lock=lock)
            except PictureChanged:
                snapshot.forget()
                raise
        filling.forget(folder)
    images = _open(folder, snapshot, image)
    assert images is not None, f"{folder} was written and cannot be read"
    return images


def folder_of(snapshot: Snapshot, image: ImageSpec, home: Path) -> Path:
    """For what is kept of them decoded, and for what is measured of them. One of their own where they lie in shards:
    the same pictures may lie in files too, and that folder is moved to its place as a whole."""
    return home / "images" / f"{cache_key(snapshot, image)}{'' if snapshot.shards is None else '-streamed'}"


def cache_key(snapshot: Snapshot, image: ImageSpec) -> str:
    """Changes when any pixel could."""
    decoder = {"preprocess": PREPROCESS_VERSION, "pillow": PIL.__version__, "image": image.model_dump(mode="json")}
    digest = hashlib.sha256(json.dumps(decoder, sort_keys=True).encode())
    raw = snapshot.hashed.raw
    for some in chunks(len(raw)):
        digest.update(raw[some].tobytes().hex().encode())
    return digest.hexdigest()[:32]


def _open(folder: Path, snapshot: Snapshot, image: ImageSpec) -> Images | None:
    """None where there is nothing, or not the whole of it."""
    shape = (image.stored_height, image.stored_width, image.channels)
    try:
        refused: Refusals = json.loads((folder / filling.UNREADABLE).read_text())
        rows = np.delete(np.arange(len(snapshot.files), dtype=np.int64), [slot for slot, _ in refused])
        if (folder / filling.PIXELS).stat().st_size != len(rows) * int(np.prod(shape)):
            return None
        pixels: np.ndarray = np.zeros((0, *shape), np.uint8)  # an empty file cannot be mapped
        if len(rows):
            pixels = np.memmap(folder / filling.PIXELS, np.uint8, "r", shape=(len(rows), *shape))
    except (OSError, ValueError):
        return None
    unreadable = tuple(Unreadable(snapshot.files[slot], reason) for slot, reason in refused)
    return Images(snapshot, image, rows, pixels, unreadable)
