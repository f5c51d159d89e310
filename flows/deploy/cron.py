"""When a cron line is due, as Prefect reads it."""

from datetime import datetime
from importlib import import_module


def next_time(cron: str, after: datetime) -> datetime:
    """Raises `ValueError` for what is no cron line, and for a day that never comes, which Prefect takes for valid."""
    croniter = import_module("prefect._vendor.croniter").croniter  # Prefect's import: seconds
    found: datetime = croniter(cron, after).get_next(datetime)
    return found
