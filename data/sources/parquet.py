"""Parquet listings, by pyarrow, which the extra `listings` brings."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from data.errors import SourceError
from data.sources.columns import Row, columns_of


def rows(file: Path) -> Iterator[Row]:
    """A batch at a time. Raises `SourceError`."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise SourceError(
            f"{file} is a Parquet listing, and pyarrow, which reads it, is not installed; "
            "pip install 'trainserve[listings]', or save the listing as CSV"
        ) from None
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            columns = columns_of(names, file, "columns")
            number = 0
            for batch in table.iter_batches():
                for cells in batch.to_pylist():
                    number += 1
                    yield (
                        f"row {number}",
                        {column: text(cells[name]) for column, name in zip(columns, names, strict=False)},
                    )
    except SourceError:
        raise
    except (OSError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SourceError(f"{file} cannot be read as Parquet ({reason}); write it again, or save it as CSV") from None


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
