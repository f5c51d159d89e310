"""What a worker starts for a run: Prefect's engine, in a process group of its own."""

import gc
import os
import runpy
from contextlib import suppress
from importlib import import_module

from flows import api, logs, patience, server
from flows.importing import uncollected

HEARTBEAT_S = 30  # Prefect's least
BACK_S = 480.0  # for as long a run that begins waits for a server that is being started again
# What every flow wants. The flow itself imports what it needs: not all of them train.
BEGINNING = ("prefect.flow_engine", "prefect.task_engine", "fastapi.encoders")


def main() -> None:
    """Never returns but by the end of the run."""
    with suppress(PermissionError):  # it leads one already
        os.setsid()  # whoever has to kill the run finds its children by it
    server.quiet_environment()
    logs.quiet_terminal()
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_S))
    with uncollected():
        for name in BEGINNING:
            import_module(name)
    patience.soon_again()
    gc.set_threshold(50_000)  # the imports to come, torch's, make a lot that stays
    await_server()
    runpy.run_module("prefect.engine", run_name="__main__")


def await_server() -> None:
    """Prefect's client gives up at once where the very first request of a process finds nobody listening."""
    there = api.lasting(away_s=BACK_S)
    if there is not None:
        with there, suppress(api.Away):  # Prefect says it in its own words
            there.ask("GET", "health")


if __name__ == "__main__":
    main()
