"""The whole log of a run in a file, whatever the terminal shows."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def quiet_terminal() -> None:
    """Before Prefect is imported: its handler for the terminal keeps still, its handler for the API does not."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    logging.raiseExceptions = False  # lines that the server did not take are in the run's log, and told to nobody
    logging.captureWarnings(True)


@contextmanager
def kept_in(file: Path) -> Iterator[None]:
    """Append everything logged at INFO or above; what Prefect's run loggers and libraries say goes there too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, delay=True)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
