"""A night passes in a moment: everything that has a time is a day older, in Prefect's database and on disk."""

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

DAY = timedelta(days=1)
WAITS_S = 300.0  # for the lock, while a server writes

# What runs leave behind. Workers, queues and schedules go on by today's clock.
TABLES = (
    "flow_run",
    "flow_run_state",
    "task_run",
    "task_run_state",
    "log",
    "artifact",
    "artifact_collection",
    "events",
    "event_resources",
)


def a_day_passes(database: Path, folders: Iterable[Path]) -> None:
    """Runs that have ended, with all that hangs on them, and files."""
    with closing(sqlite3.connect(database, timeout=WAITS_S)) as connection, connection:
        connection.create_function("day_before", 1, _day_before, deterministic=True)
        for table in TABLES:
            columns = _times(connection, table)
            if columns:
                changed = ", ".join(f"{column} = day_before({column})" for column in columns)
                ended = "" if table != "flow_run" else " WHERE end_time IS NOT NULL"
                connection.execute(f"UPDATE {table} SET {changed}{ended}")
    for folder in folders:
        for path in folder.rglob("*"):
            if not path.is_symlink():
                with suppress(FileNotFoundError):  # a temporary one, of a worker that goes on
                    there = path.stat()
                    os.utime(path, (there.st_atime - DAY.total_seconds(), there.st_mtime - DAY.total_seconds()))


def rows(database: Path) -> dict[str, int]:
    """Of every table; those of a full-text index as well."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=WAITS_S)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def bytes_used(database: Path) -> int:
    """Pages that hold something: a file keeps those that have become free, and fills them again."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=WAITS_S)) as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


def _times(connection: sqlite3.Connection, table: str) -> list[str]:
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return [name for _, name, kind, *_ in columns if kind.upper() in ("DATETIME", "TIMESTAMP")]


def _day_before(text: str | None) -> str | None:
    if text is None:
        return None
    return str(datetime.fromisoformat(text) - DAY)
