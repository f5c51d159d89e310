"""What the pictures of a data set were when it was prepared: kept for years after the pictures themselves have changed.

`home/datasets/snapshots/<fingerprint>-<settings of the split>.csv.gz` has a line for each picture: sha256, label, part
(empty: in none, being unreadable or a copy), bytes, file. Equal records are equal bytes. Names of files are no content:
of records that differ in nothing else the one kept last stays. Beside them `<name>.json` says which was the last one of
a data set.
"""

import csv
import gzip
import io
import re
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from data import layout, whole
from data.compact import DIGEST_BYTES, Digests, Texts, at_a_time, chunks
from data.errors import InputError
from data.images import Images
from data.snapshot import Snapshot
from data.spec import DatasetSpec, Frozen, Part
from data.split import Split

COLUMNS = ("sha256", "label", "part", "bytes", "file")
PARTS = ("", *Part)  # by code; in no part, being unreadable or a copy
OPEN = -1  # instead of a code: the source leaves it open, and nothing was split yet
SUFFIX = ".csv.gz"
SHORTEST, SHOWN = 8, 12  # digits of a fingerprint that find a record, and that are told
COMPRESSION = 1
_CALLED = re.compile(rf"([0-9a-f]{{{SHORTEST},64}})(-.*)?")


@dataclass(frozen=True)
class Record:
    """N pictures of a data set, as they once were."""

    fingerprint: str
    classes: tuple[str, ...]  # natural order
    digests: np.ndarray  # (N,) S32, the sha256 itself
    labels: np.ndarray  # (N,) int32, index into classes
    parts: np.ndarray  # (N,) int8, index into PARTS, or OPEN
    sizes: np.ndarray  # (N,) int64, bytes
    files: Sequence[str]  # (N,) as the snapshot has them
    split: bool = True  # False: the parts are what a source says, before anything was left out or split off


class Last(Frozen):
    """The record that was kept last under a data set's name."""

    record: str  # its file's name, without the suffix
    when: str  # ISO 8601, UTC


def of(images: Images, split: Split) -> Record:
    """With the parts that the pictures were given."""
    parts = np.zeros(len(images.snapshot.files), np.int8)
    for code, part in enumerate(Part, start=1):
        parts[images.rows[getattr(split, part)]] = code
    return _of_snapshot(images.snapshot, parts, split=True)


def of_source(snapshot: Snapshot) -> Record:
    """With the parts that the source states and no split changes: what the others are split off from is left open."""
    stated = snapshot.stated.distinct
    pool = Part.TRAIN if stated & {Part.TRAIN, None} else Part.VAL
    settled = stated if stated >= set(Part) else stated - {pool}
    codes = snapshot.stated.by(lambda part: PARTS.index(part) if part is not None and part in settled else OPEN)
    return _of_snapshot(snapshot, codes.astype(np.int8), split=False)


def name_of(fingerprint: str, spec: DatasetSpec) -> str:
    """What the record is called of these pictures, split as `spec` says."""
    by = f"-{spec.split_by}" if spec.split_by else ""  # where it is left open, the pictures decide it
    return f"{fingerprint}-{spec.split_name}{by}"


def folder(home: Path) -> Path:
    return home / "datasets" / "snapshots"


def keep(record: Record, record_name: str, *, data_set: str, home: Path) -> Path:
    """Whole or not at all; it is the last one of the data set from then on. Hold `whole.locked(folder(home))`.

    A line at a time: a million of them are 110 MB of text.
    """
    file = folder(home) / f"{record_name}{SUFFIX}"
    with (
        whole.file(file) as part,
        gzip.GzipFile("", "wb", COMPRESSION, part, mtime=0) as packed,
        io.TextIOWrapper(packed, "utf-8", "surrogateescape", newline="") as text,
    ):
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(COLUMNS)
        lines.writerows(_lines(record))
    newest = Last(record=record_name, when=datetime.now(UTC).isoformat(timespec="seconds"))
    whole.write(_last_file(data_set, home), newest.model_dump_json().encode())
    return file


def last(data_set: str, home: Path) -> Last | None:
    """None where none was kept; one that cannot be read is none."""
    try:
        return Last.model_validate_json(_last_file(data_set, home).read_bytes())
    except (OSError, ValueError):
        return None


def find(text: str, home: Path) -> Path | None:
    """The record whose fingerprint begins with these digits, of several splits the one kept last; with `-seed0-...`
    behind them, of that split. None where there is none, or where `text` is no such thing.

    Raises `InputError` where it is one of several fingerprints.
    """
    said = _CALLED.fullmatch(text)
    if said is None:
        return None
    digits, settings = said[1], said[2]
    found = [file for file in folder(home).glob(f"{digits}*{SUFFIX}") if settings in (None, _settings(file))]
    fingerprints = sorted({fingerprint_of(file) for file in found})
    if len(fingerprints) > 1:
        raise InputError(f"{digits!r} begins {len(fingerprints)} fingerprints; write more digits of {fingerprints[0]}")
    return max(found, key=lambda file: file.stat().st_mtime_ns, default=None)


def load(file: Path) -> Record:
    """Raises `InputError` for a file that is damaged."""
    try:
        return _read(file)
    except (OSError, EOFError, ValueError, LookupError, StopIteration, zlib.error, csv.Error) as error:
        raise InputError(
            f"{file} is damaged ({type(error).__name__}: {error}); remove it, and the next run on these pictures "
            "writes it anew"
        ) from None


def _read(file: Path) -> Record:
    digests, labels, parts, sizes = bytearray(), array("i"), array("b"), array("q")
    files: list[Texts[str]] = []
    numbers: dict[str, int] = {}  # label -> in the order of appearance
    codes = {str(part): code for code, part in enumerate(PARTS)}
    with gzip.open(file, "rt", encoding="utf-8", errors="surrogateescape", newline="") as text:
        lines = csv.reader(text)
        head = next(lines)
        columns = [head.index(name) for name in COLUMNS]
        for some in at_a_time(lines):
            for line in some:
                digest, label, part, size, _ = (line[column] for column in columns)
                digests += bytes.fromhex(digest)
                labels.append(numbers.setdefault(label, len(numbers)))
                parts.append(codes[part])
                sizes.append(int(size))
            files.append(Texts.of(line[columns[-1]] for line in some))
    classes = tuple(sorted(numbers, key=layout.natural))
    position = np.array([classes.index(label) for label in numbers], np.int32)
    return Record(
        fingerprint=fingerprint_of(file),
        classes=classes,
        digests=np.frombuffer(digests, "S32", count=len(labels)),
        labels=position[np.array(labels, np.int64)],
        parts=np.array(parts, np.int8),
        sizes=np.array(sizes, np.int64),
        files=Texts.joined(files),
    )


def fingerprint_of(file: Path) -> str:
    return file.name.partition("-")[0].removesuffix(SUFFIX)


def _settings(file: Path) -> str:
    return file.name.removesuffix(SUFFIX).removeprefix(fingerprint_of(file))


def _last_file(data_set: str, home: Path) -> Path:
    return folder(home) / f"{data_set}.json"


def _of_snapshot(snapshot: Snapshot, parts: np.ndarray, *, split: bool) -> Record:
    return Record(
        fingerprint=snapshot.fingerprint,
        classes=snapshot.classes,
        digests=np.ascontiguousarray(snapshot.hashed.raw).view("S32")[:, 0],
        labels=snapshot.labels.astype(np.int32, copy=False),
        parts=parts,
        sizes=snapshot.sizes,
        files=snapshot.files,
        split=split,
    )


def _lines(record: Record) -> Iterator[tuple[str, str, str, int, str]]:
    digests = record.digests.view(np.uint8).reshape(-1, DIGEST_BYTES)  # an element of S32 loses the zeros at its end
    files = iter(record.files)
    for some in chunks(len(record.labels)):
        columns = (column[some].tolist() for column in (record.labels, record.parts, record.sizes))
        for digest, label, part, size, file in zip(Digests(digests[some]), *columns, files, strict=False):
            yield digest, record.classes[label], PARTS[part], size, file
