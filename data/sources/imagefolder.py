"""Hugging Face's `imagefolder`: pictures, and beside or above them a metadata.csv, .jsonl or .parquet that says what
they show.

https://huggingface.co/docs/datasets/image_dataset
"""

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data.errors import SourceError
from data.layout import PARTS, Listed, Listing, Pictures, class_name
from data.sources import choosing, listing, parquet

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE = "file_name"

Row = Mapping[str, object]


def tables_of(root: Path, files: Sequence[str]) -> dict[str, list[Row]]:
    """The metadata among `files` that speaks of files, with its lines; what is called so and does not is none."""
    found = {}
    for file in files:
        if posixpath.basename(file) in METADATA:
            rows = list(_rows(root / file))
            if rows and _file_columns(rows[0]):
                found[file] = rows
    return found


def read(root: Path, files: Sequence[str], tables: Mapping[str, list[Row]], *, label: str | None) -> Listing | None:
    """What the metadata says; None where it says nothing of classes, so that folders do. Raises `SourceError`."""
    pictures: dict[str, Listed] = {}
    for file, rows in tables.items():
        above, where = posixpath.dirname(file), str(root / file)
        if any(posixpath.dirname(other) == above for other in tables if other != file):
            raise SourceError(f"{where} has another metadata file beside it; leave one of the two")
        name = choosing.column("image", _file_columns(rows[0]), where)
        classes = choosing.column("label", _labels(rows), where, asked=label)
        if classes is None:
            return None
        assert name is not None  # of those that `tables_of` found
        for number, row in enumerate(rows, start=1):
            one = _listed(row, name, classes, above, f"{where}, row {number}")
            if one is not None and pictures.setdefault(one.file, one) != one:
                raise SourceError(
                    f"{where}, row {number}: {one.file!r} is there twice, otherwise; leave one of the two"
                )
    there = {*files}
    missing = pictures.keys() - there
    if len(missing) == len(pictures):
        raise SourceError(f"none of the {len(pictures):,} files that the metadata in {root} names is there; mend it")
    ignored = [file for file in files if file not in pictures and file not in tables and not file.endswith("/")]
    return Listing(
        root,
        Pictures.of(one for name, one in pictures.items() if name in there),
        tuple(sorted(ignored)),
        tuple(sorted(missing)),
    )


def _listed(row: Row, name: str, classes: str, above: str, where: str) -> Listed | None:
    """None for a picture without a class, as test sets of competitions have them."""
    label = class_name(parquet.text(row.get(classes)))
    if not label:
        return None
    try:
        file = posixpath.normpath(posixpath.join(above, listing.below(parquet.text(row.get(name)))))
    except ValueError as error:
        raise SourceError(f"{where}: {error}") from None
    said = [PARTS[folder.lower()] for folder in file.split("/")[:-1] if folder.lower() in PARTS]
    return Listed(file, label, said[0] if said else None)


def _file_columns(row: Row) -> list[str]:
    return [name for name in row if name == FILE or name.endswith(f"_{FILE}")]


def _labels(rows: Sequence[Row]) -> list[str]:
    """Columns of texts and numbers, beside those of files."""
    names = [name for name in rows[0] if name not in _file_columns(rows[0])]
    return [name for name in names if all(isinstance(row.get(name), str | int | None) for row in rows[:1000])]


def _rows(file: Path) -> Iterator[Row]:
    """Raises `SourceError`."""
    if file.suffix == ".parquet":
        yield from parquet.plain_rows(file)
        return
    text = listing.text_of(file)
    if file.suffix == ".csv":
        try:
            yield from _csv_rows(file, text)
        except csv.Error as error:
            raise SourceError(f"{file} is no CSV ({error}); mend it, mostly a quote is missing") from None
        return
    for number, line in enumerate(text.split("\n"), start=1):  # `splitlines` breaks at what JSON has inside a text
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise SourceError(f"{file}, line {number}: {line[:40]!r} is no JSON object; mend it")
            yield row


def _csv_rows(file: Path, text: str) -> Iterator[Row]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    for row in rows:
        more = row.pop(None, None)  # where cells stand that no column is above
        if more and any(more) and _file_columns(row):
            raise SourceError(
                f"{file}, line {rows.line_num}: {len(row) + len(more)} cells under {len(row)} columns; put quotes "
                "around what holds a comma"
            )
        yield row
