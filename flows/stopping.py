"""SIGTERM and Ctrl-C: what trains is asked to save and stop, then the process ends as it was told to.

Prefect raises its own exception in the main thread on SIGTERM, and a runner that cancels first looks whether Prefect's
handler is still in place. So no handler is replaced while a flow runs: training works in a thread of its own, whatever
exception reaches the main thread, which waits, is the request to stop, and goes on its way once the state is saved.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import copy_context
from types import FrameType
from typing import NoReturn, TypeVar

T = TypeVar("T")

THREAD = "training"
SAME_S = 20.0  # within which a second SIGTERM is the same request: a worker and the run itself may both send one

_asked = threading.Event()


class Interrupted(BaseException):
    """SIGTERM, or Ctrl-C, and how to go on; not an error, so that nobody handles it as one."""

    def __init__(self, number: int, run_id: str | None = None) -> None:
        again = "the same command goes on where it stopped"
        resume = f"; so does `trainserve run --resume {run_id}`" if run_id else ""
        super().__init__(f"interrupted; {again}{resume}")
        self.number = number
        self.status = 128 + number
        self.state_message = f"Stopped by {'Ctrl-C' if number == signal.SIGINT else 'a signal to end'}; " + (
            f"`trainserve run --resume {run_id}` goes on" if run_id else "nothing had begun that could be gone on with"
        )


def stoppable(work: Callable[[Callable[[], bool]], T], *, on_stop: Callable[[], None]) -> T:
    """`work(stop)` in a thread of its own, in this context; `stop()` is true once the caller has been interrupted.

    The interruption is raised again when `work` has ended. A second Ctrl-C does not wait for that; from then on each
    ends the process.
    """
    asked = threading.Event()
    _asked.clear()
    done: Future[T] = Future()
    context = copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work, asked.is_set))
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            done.set_exception(error)

    threading.Thread(target=run, name=THREAD, daemon=True).start()
    try:
        wait([done])
    except BaseException:
        asked.set()
        _asked.set()
        on_stop()
        try:
            _wait_on(done)
        finally:
            next_ends_at_once()
        raise
    return done.result()


def asked() -> bool:
    """Whether something that works has been asked to save and stop."""
    return _asked.is_set()


def _wait_on(done: "Future[T]") -> None:
    """Until it has saved. Raises what interrupts it once more, unless that is the same SIGTERM from another side."""
    since = time.monotonic()
    while True:
        try:
            wait([done])
            return
        except BaseException as again:
            number = getattr(again, "signal", getattr(again, "number", None))  # Prefect's exception, or ours
            if number != signal.SIGTERM or time.monotonic() - since > SAME_S:
                raise


def next_ends_at_once() -> None:
    """What was to be saved is: what is left is to tell Prefect, whose client tries for minutes where the server has
    gone, and takes every further interruption for a reason to tell that too."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os._exit(128 + number))


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Interrupted` here, also after Prefect has handled it for its flow."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt), signal.SIGINT: signal.getsignal(signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as signal handlers are called
    raise Interrupted(number)


@contextmanager
def soon_over() -> Iterator[None]:
    """Around all that a command does: once that is done and said, the process ends, and Ctrl-C ends it at once.

    To be entered before anything registers an exit function: its own is then the last to run. What would come after
    it, taking torch and Prefect apart, takes seconds in which nothing answers.
    """
    ended: list[int] = []

    @atexit.register
    def leave_at_once() -> None:
        if ended:
            end(ended[0])

    try:
        yield
        ended.append(0)
    except SystemExit as left:
        status = left.code
        if isinstance(status, int):
            ended.append(status)
            signal.signal(signal.SIGINT, lambda *_: os._exit(status))
        raise


def end(status: int) -> None:
    """At once: nothing that is still to be told to anybody is waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def leave(status: int) -> NoReturn:
    """End the process; a thread that still trains, after a second Ctrl-C, is not waited for."""
    if any(thread.name == THREAD for thread in threading.enumerate()):
        end(status)
    sys.exit(status)
