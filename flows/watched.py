"""A flow that watches its own run on the server, so that a cancel reaches it whether or not a worker lives.

Who cancels, Prefect tells the worker, which sends SIGTERM. The same is done here a little later, unless it has come.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from uuid import UUID

from flows import api, stopping
from flows.api import Api, Away, FlowRun

LOOK_EVERY_S = 1.5
GRACE_S = 1.0  # for the worker, whose signal says more
TAKEN_OVER = 0  # exit status: the worker is to report nothing, since the run is another process's now

Ending = Literal["cancelled", "deleted", "taken over"]

logger = logging.getLogger("trainserve.watched")


def ending(mine: int, run: FlowRun | None) -> Ending | None:
    """Why this process has to end; None: it need not. `mine`: the attempt of the run that this process is."""
    if run is None:
        return "deleted"
    if run.type in ("CANCELLING", "CANCELLED"):
        return "cancelled"
    if run.type == "RUNNING" and run.run_count > mine:
        return "taken over"
    return None


@contextmanager
def watched(run: UUID | str | None, *, every_s: float = LOOK_EVERY_S) -> Iterator[None]:
    """Ends this process in order when its run is cancelled or deleted, and at once when another process has it."""
    server = None if run is None else api.lasting()
    if server is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(server, run, over, every_s), name="watched", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()  # not joined: it may be waiting for an answer


def _watch(server: Api, run: UUID | str, over: threading.Event, every_s: float) -> None:
    mine: int | None = None
    while not over.wait(every_s):
        try:
            seen = read(server, run)
            if seen is not None and seen.type == "CRASHED" and not over.is_set():
                mine = None  # its being alive again counts as a new attempt
                revive(server, seen)
                continue
        except (Away, ValueError):
            continue  # the server is away; the run goes on
        if mine is None and seen is not None:
            mine = seen.run_count
        why = ending(mine or 0, seen)
        if why is None:
            continue
        _end(why, over)
        return


def read(server: Api, run: UUID | str) -> FlowRun | None:
    """None if it has been deleted. Raises `Away`."""
    answer = server.ask("GET", f"flow_runs/{run}")
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    return FlowRun.model_validate(answer.json())


def revive(server: Api, run: FlowRun) -> None:
    """Marked as dead by mistake, as after a server that was away for some minutes: what ends the signs of life that it
    heard is its own absence. Raises `Away`."""
    if server.set_state(run.id, "RUNNING", "Running", "Marked as crashed by mistake: its process lives"):
        logger.warning("this run was marked as crashed; it lives, and goes on")


def _end(why: Ending, over: threading.Event) -> None:
    logger.warning("this run was %s: saving and ending", why)
    if why == "taken over":
        logging.shutdown()
        os._exit(TAKEN_OVER)  # its folder is another process's to work in, and so is its state
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until and not stopping.asked():
        if over.wait(0.1):
            return
    if not stopping.asked():
        os.kill(os.getpid(), signal.SIGTERM)
