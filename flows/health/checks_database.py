"""What the Prefect server keeps, where, and for how long."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from flows.api import MOST, Api
from flows.deploy.definitions import POOL
from flows.health import listeners
from flows.health.checked import Checked, Checks

LARGE_GB = 1.0
MANY_WORKERS = 2
EVENTS_DAYS = 7
HERE = {"127.0.0.1", "localhost", "::1"}
VARIABLES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")


def events(api: Api) -> Checks:
    """The server alone can delete events; a heartbeat every 30 s is 120 an hour of every run."""
    yield kept(api.get("admin/settings")["server"])


def kept(settings: Mapping[str, Any]) -> Checked:
    """As the server's own settings say."""
    days = TypeAdapter(timedelta).validate_python(settings["events"]["retention_period"]) / timedelta(days=1)
    chosen = settings["services"]["db_vacuum"]["enabled"]
    vacuums = chosen is not None and (isinstance(chosen, bool) or "events" in chosen)
    if not vacuums:
        remedy = "set PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events where the server is started"
        return Checked("events", "wrong", f"the server never deletes them; {remedy}")
    if days > EVENTS_DAYS:
        remedy = f"PREFECT_EVENTS_RETENTION_PERIOD={EVENTS_DAYS}d where the server is started keeps them for a week"
        return Checked("events", "note", f"the server keeps them for {days:.0f} days; {remedy}")
    return Checked("events", "ok", f"the server keeps them for {days:.0f} days")


def database(api: Api, url: str) -> Checks:
    """Its kind and size, as far as they can be seen from here."""
    there = api.post(f"work_pools/{POOL}/workers/filter", {"limit": MOST}) if _has_pool(api) else []
    num = sum(one["status"] == "ONLINE" for one in there)
    runs = api.post("flow_runs/count", {})
    postgres = next((os.environ[name] for name in VARIABLES if "postgres" in os.environ.get(name, "")), None)
    if postgres is not None:
        yield Checked("database", "ok", f"PostgreSQL, {_size(_postgres_bytes(postgres))}, {runs:,} flow runs")
        return
    file = Path(str(api.get("admin/settings").get("home") or "")) / "prefect.db"
    if urlsplit(url).hostname in HERE and file.is_file() and listeners.is_open(file):
        parts = [part for part in file.parent.glob(f"{file.name}*") if part.is_file()]
        yield judged_sqlite(sum(part.stat().st_size for part in parts), runs, num)
    else:
        known = "its kind and size are seen where the server is started, with the variables that it has"
        yield Checked("database", "ok", f"{runs:,} flow runs; {known}")


def judged_sqlite(num_bytes: int, runs: int, num_workers: int) -> Checked:
    said = f"SQLite, {_size(num_bytes)}, {runs:,} flow runs"
    if num_bytes > LARGE_GB * 1e9 or num_workers > MANY_WORKERS:
        remedy = "PostgreSQL suits better (docs/operations.md)"
        return Checked("database", "note", f"{said}, {num_workers} workers: {remedy}")
    return Checked("database", "ok", said)


def _has_pool(api: Api) -> bool:
    return api.ask("GET", f"work_pools/{POOL}").status_code == 200


def _size(num_bytes: int | None) -> str:
    if num_bytes is None:
        return "of unknown size"
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.1f} GB"


def _postgres_bytes(url: str) -> int | None:
    import asyncio

    try:
        return asyncio.run(_asked(url.replace("+asyncpg", "")))
    except Exception:  # noqa: BLE001 - its size is nice to know, and the driver may fail in any way
        return None


async def _asked(url: str) -> int:
    import asyncpg  # type: ignore[import-untyped]

    connection = await asyncpg.connect(url, timeout=3)
    try:
        return int(await connection.fetchval("select pg_database_size(current_database())"))
    finally:
        await connection.close()
