"""A listing: a table that says which pictures there are, what they show, and to which part they belong.

Columns `path` and `label`, and if need be `split` (train, val or test; empty: split off) and `group` (a patient, a
camera: what must not be in two parts; empty: none) and `time` (ISO 8601; without an offset: UTC). Paths are relative to
the listing, stay below its folder, and are written with slashes.
"""

import csv
import io
import posixpath
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from data.errors import SourceError
from data.layout import PARTS, Listed, Listing, Pictures, class_name
from data.sources import parquet
from data.sources.columns import NEEDED, Row, columns_of
from data.times import at

SUFFIXES = (".csv", ".parquet")
DELIMITERS = (",", ";", "\t")


def read(file: Path) -> Listing:
    """The pictures of a listing. The same line twice is once; a file that is not there is among the missing.

    Raises `SourceError` with the line that cannot be understood.
    """
    root, pictures = file.parent, _pictures(file)
    there = np.fromiter((_is_file(root / name) for name in pictures.files), bool, len(pictures))
    if not there.any():
        raise SourceError(
            f"none of the {len(pictures):,} files that {file} lists is there, such as {pictures.files[0]!r}; "
            f"paths are relative to {root}"
        )
    present, missing = pictures.taken(there), pictures.taken(~there)
    gone = missing.labels.distinct - present.labels.distinct
    return Listing(root, present, tuple(sorted(f"{label}/" for label in gone)), tuple(sorted(missing.files)), file)


def _pictures(file: Path) -> Pictures:
    """What the lines say, in their order, each file once."""
    found = Pictures.of(one for _, one in _lines(file))
    if not len(found):
        raise SourceError(f"{file} lists no picture; write a line for each below its header, {','.join(NEEDED)}")
    names = np.fromiter(map(hash, found.files), np.int64, len(found))  # 64 bits, which tell a million names apart
    _, first, which = np.unique(names, return_index=True, return_inverse=True)
    for row in np.flatnonzero(first[which] != np.arange(len(found))).tolist():
        before = int(first[which[row]])
        if found[row] != found[before]:
            place, other = (next(islice(_lines(file), one, None))[0] for one in (row, before))
            raise SourceError(
                f"{file.name}, {place}: {found[row].file!r} is in {other} too, which says otherwise; "
                "leave one of the two"
            )
    return found.taken(np.sort(first))


def _lines(file: Path) -> Iterator[tuple[str, Listed]]:
    """Where each stands, such as `line 17`, and what it says."""
    for place, row in parquet.rows(file) if file.suffix.lower() == ".parquet" else _csv_rows(file):
        try:
            yield place, _listed(row)
        except ValueError as error:
            raise SourceError(f"{file.name}, {place}: {error}") from None


def _listed(row: Mapping[str, str]) -> Listed:
    """Raises `ValueError` with what is wrong, and the remedy."""
    label = class_name(row["label"])
    if not label:
        raise ValueError(f"{row['path']!r} has no label; write its class, or remove the line")
    said = row.get("split", "")
    if said and said.lower() not in PARTS:
        raise ValueError(f"{said!r} is no split; write train, val or test, or nothing where it is to be split off")
    part, time = PARTS[said.lower()] if said else None, row.get("time")
    return Listed(_path(row["path"]), label, part, row.get("group") or None, at(time) if time else None)


def _path(text: str) -> str:
    if not text:
        raise ValueError("there is no path; write that of a picture, relative to the listing")
    if text.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", text):
        raise ValueError(f"{text!r} is an absolute path; write it relative to the listing, below its folder")
    if ".." in re.split(r"[\\/]", text):
        raise ValueError(f"{text!r} leads out of the listing's folder; put the listing above its pictures")
    return posixpath.normpath(text)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or none that a file can have
        return False


def _csv_rows(file: Path) -> Iterator[Row]:
    """As spreadsheets save it: with or without the mark of UTF-8, with either line end, with commas, semicolons or
    tabs. Empty lines are left out."""
    text = _text(file)
    first = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=first.count), strict=True)
    columns: list[str] = []
    number = 1
    try:
        for cells in rows:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                if not columns:
                    columns = columns_of(stripped, file, f"line {number}")
                elif any(stripped[len(columns) :]):
                    raise SourceError(
                        f"{file.name}, line {number}: {len(cells)} cells under {len(columns)} columns; "
                        "put quotes around what holds a comma"
                    )
                else:
                    yield f"line {number}", dict(zip(columns, [*stripped, *([""] * len(columns))], strict=False))
            number = rows.line_num + 1
    except csv.Error as error:
        raise SourceError(f"{file.name}, line {number}: no CSV ({error}); mend it, mostly a quote is missing") from None


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}; make it readable") from None
    except UnicodeDecodeError:
        raise SourceError(f"{file} is not UTF-8; save it as CSV UTF-8 (comma delimited)") from None
