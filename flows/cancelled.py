"""A flow that is stopped by a signal or a cancel ends as Cancelled, with a sentence on how to go on."""

import signal
from collections.abc import Callable
from typing import TypeVar, cast

from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled

from flows.console import display
from flows.stopping import Interrupted

T = TypeVar("T")


def cancelled_by_signals(work: Callable[[], T], *, going_on: str) -> T:
    """Returned, since what is raised here shows as a crash; whoever called the flow has its data raised."""
    try:
        return work()
    except (KeyboardInterrupt, TerminationSignal) as end:
        number = end.signal if isinstance(end, TerminationSignal) else signal.SIGINT
        by = "Ctrl-C" if number == signal.SIGINT else "a signal to end"
        stopped = Interrupted(number, display().run_id)
        return cast("T", Cancelled(message=f"Stopped by {by}; {going_on}", data=stopped))
