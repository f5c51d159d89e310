"""Parquet listings, by pyarrow, which the extra `listings` brings."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from data.errors import SourceError
from data.sources.columns import Row, columns_of


def rows(file: Path) -> Iterator[Row]:
    """Those of a listing, a batch at a time. Raises `SourceError`."""
    with opened(file) as table:
        columns = columns_of(table.schema_arrow.names, file, "columns")
        for number, cells in enumerate(_cells(table), start=1):
            yield f"row {number}", {column: text(cell) for column, cell in zip(columns, cells.values(), strict=False)}


def plain_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Column -> cell, whatever they are called. Raises `SourceError`."""
    with opened(file) as table:
        yield from _cells(table)


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`. Raises `SourceError`."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise SourceError(
            f"{file} is a Parquet file, and pyarrow, which reads it, is not installed; "
            "pip install 'trainserve[listings]', or save a listing as CSV"
        ) from None
    try:
        with pq.ParquetFile(file) as table:
            yield table
    except SourceError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{file} cannot be read as Parquet ({reason}); write it again, or save it as CSV") from None


def _cells(table: Any) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches():
        yield from batch.to_pylist()


def text(cell: Any) -> str:
    """As a CSV would have it; what is no number and no value is nothing."""
    match cell:
        case None:
            return ""
        case bytes():
            return cell.decode("utf-8", "replace").strip()
        case date():  # and so a time
            return cell.isoformat()
        case float() if cell != cell:
            return ""
        case _:
            return str(cell).strip()
