"""Whether Prefect's database has the tables of the installed Prefect, so that a server need not look for migrations.

Prefect reads all of its migrations at each start to find that there is none to run: 0.1 CPU seconds. What a server of
this version has left behind is remembered beside the database; another version, or another database, is looked at.
"""

import os
from contextlib import closing
from pathlib import Path

from data import whole

MEMORY = "trainserve-schema.txt"
SETTING = "PREFECT_API_DATABASE_MIGRATE_ON_START"


def without_migrations() -> dict[str, str]:
    """The setting that spares a server the look, as an environment variable, where the database is as remembered."""
    now = _state()
    try:
        known = now is not None and (_folder() / MEMORY).read_text() == now
    except OSError:
        known = False
    return {SETTING: "false"} if known else {}


def remember() -> None:
    """After a server's start, which migrates."""
    now = _state()
    if now is None or without_migrations():
        return
    try:
        whole.write(_folder() / MEMORY, now.encode())
    except OSError:  # the next server looks again
        return


def _folder() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()


def _state() -> str | None:
    """Prefect's version and the database's revision (alembic's); None where another database was chosen, or none is."""
    if _another_was_chosen():
        return None
    import sqlite3  # late, as the next: the command has the server to start first
    from importlib.metadata import version

    database = _folder() / "prefect.db"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as opened:
            revisions = opened.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return None
    return f"{version('prefect')} {' '.join(sorted(str(row[0]) for row in revisions))}\n"


def _another_was_chosen() -> bool:
    """By variable, profile or file; or it cannot be told."""
    for name in os.environ:
        if name == "PREFECT_PROFILES_PATH" or (name.startswith("PREFECT_") and "DATABASE" in name):
            return True
    files = (_folder() / "profiles.toml", Path("prefect.toml"), Path("pyproject.toml"), Path(".env"))
    return any(_speaks_of_a_database(file) for file in files)


def _speaks_of_a_database(file: Path) -> bool:
    try:
        text = file.read_text(errors="replace").lower()
    except OSError:
        return False
    return "prefect" in f"{file} {text}".lower() and "database" in text
