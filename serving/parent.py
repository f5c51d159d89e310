"""Whose child a process of the service is, and that it ends with it."""

import os
import signal
import threading

SUPERVISOR = "TRAINSERVE_SUPERVISOR"  # its process id, in the environment of its workers
KEEPER = "TRAINSERVE_KEEPER"  # that of whoever started a service for a while and keeps it, in that of its supervisor


def pid() -> int:
    """The supervisor's process id; that of the parent where `bentoml serve` has started the worker.

    A worker whose supervisor was killed while it started could not ask for it: its parent is another by then.
    """
    return int(os.environ.get(SUPERVISOR, os.getppid()))


def end_with_it() -> None:
    """A worker whose supervisor was killed would hold the port for ever."""
    threading.Thread(target=_watch, args=(pid(),), name="parent", daemon=True).start()


def end_with_keeper() -> None:
    """A service that was started for a while would answer for ever where its keeper was killed. Others have none."""
    if (keeper := os.environ.get(KEEPER)) is not None:
        threading.Thread(target=_watch, args=(int(keeper),), name="keeper", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        threading.Event().wait(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
