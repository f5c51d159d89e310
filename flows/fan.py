"""Tasks given out on an engine: each tells when it has ended, and one that was lost does not stop the others."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED, temporary_settings
from prefect.task_runners import TaskRunner

from data.errors import InputError, RunFailed
from models.training.children import Lost


class Fan:
    """`with fanned(...) as fan: fan.give(1, ...); number, outcome = fan.ended(timeout_s=1)`."""

    def __init__(self, task: "Task[Any, Any]", make: Callable[[], "TaskRunner[Any]"], stack: ExitStack) -> None:
        self._task, self._make, self._stack = task, make, stack
        self._runner: TaskRunner[Any] | None = None
        self._ended: queue.Queue[tuple[int, object, TaskRunner[Any]]] = queue.Queue()
        self.under_way: set[int] = set()

    def give(self, number: int, **parameters: object) -> None:
        """`number` is how the task is named when it has ended; the other parameters are the task's."""
        if self._runner is None:
            self._stack.close()  # what is left of a pool that lost a process
            self._runner = self._stack.enter_context(self._make())
        # The flow has looked at it. A task that asks the server for nothing begins also while that is away.
        with temporary_settings({PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}):
            future = self._runner.submit(self._task, {"number": number, **parameters})
        self.under_way.add(number)
        context = copy_context()
        threading.Thread(target=context.run, args=(self._wait, number, future, self._runner), daemon=True).start()

    def ended(self, *, timeout_s: float) -> tuple[int, object] | None:
        """(number, what the task returned or the exception that ended it); None if none has ended in that time."""
        try:
            number, outcome, runner = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self.under_way.discard(number)
        if isinstance(outcome, BrokenExecutor) and runner is self._runner:
            self._runner = None  # all that it has fails, and another one is made for what comes next
        return number, outcome

    def _wait(self, number: int, future: "PrefectFuture[Any]", runner: "TaskRunner[Any]") -> None:
        try:
            outcome = future.result(raise_on_failure=False)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the flow decides
            outcome = error
        self._ended.put((number, outcome, runner))


@contextmanager
def fanned(task: "Task[Any, Any]", make: Callable[[], "TaskRunner[Any]"]) -> Iterator[Fan]:
    """`make` gives a runner that has not been entered; another one is made where a pool breaks."""
    with ExitStack() as stack:
        yield Fan(task, make, stack)


def reason(outcome: object) -> InputError | RunFailed | None:
    """Why a task failed that would fail again; None where its worker or process is gone, and it may be given again."""
    return outcome if isinstance(outcome, InputError | RunFailed) and not isinstance(outcome, Lost) else None


def lost(task: Any, task_run: Any, state: Any) -> bool:  # noqa: ARG001 - Prefect's names
    """Worth another try by the same worker."""
    return isinstance(state.result(raise_on_failure=False), Lost)
