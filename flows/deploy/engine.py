"""What a worker starts for a run: Prefect's engine, in a process group of its own."""

import gc
import os
import runpy
from contextlib import suppress
from importlib import import_module

from flows import logs, server
from flows.importing import uncollected

HEARTBEAT_S = 30  # Prefect's least
RETRIES = 8  # of a request while the server is away: with doubling pauses, some eight minutes
# What every flow wants. The flow itself imports what it needs: not all of them train.
BEGINNING = ("prefect.flow_engine", "prefect.task_engine", "fastapi.encoders")


def main() -> None:
    """Never returns but by the end of the run."""
    with suppress(PermissionError):  # it leads one already
        os.setsid()  # whoever has to kill the run finds its children by it
    server.quiet_environment()
    logs.quiet_terminal()
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_S))
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", str(RETRIES))
    with uncollected():
        for name in BEGINNING:
            import_module(name)
    gc.set_threshold(50_000)  # the imports to come, torch's, make a lot that stays
    runpy.run_module("prefect.engine", run_name="__main__")


if __name__ == "__main__":
    main()
