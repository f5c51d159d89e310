"""The process that fetches runs from the server and starts them: Prefect's process worker, made to last.

`python -m flows.deploy.worker NAME`. How to end is told to it on standard input, by a line: `finish` takes no further
run and ends with the last one; `stop` has the runs save and end as cancelled; `put off` has them save, end, and wait
for the next worker to go on with them. The end of the input is the end of the process that keeps it: it leaves at
once, and runs go on without it.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import httpx
from prefect.states import AwaitingRetry
from prefect.workers.process import ProcessWorker

from flows import patience
from flows.deploy.definitions import POOL, QUEUES

PATIENCE_S = 60.0  # for runs to save and end; what has not by then is killed
LOOK_EVERY_S = 0.3
LATER = "Saved and stopped with `trainserve deploy`; goes on when that runs again"


class Worker(ProcessWorker):
    """Outlives the server, and never takes a run down with itself."""

    def __init__(self, name: str) -> None:
        super().__init__(work_pool_name=POOL, work_queues=list(QUEUES), name=name)
        self.leaving = False
        self._under_way = 0  # runs from the moment they are seen until their last state has been reported
        self._pids: dict[UUID, int] = {}
        self._stopped_at: float | None = None
        self._put_off = False

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Under `process` Prefect knows its own."""
        return "trainserve"

    async def get_and_submit_flow_runs(self) -> list[Any]:
        """Nothing while the server is away: Prefect's loop would give up after some minutes, and end the runs."""
        if self.leaving:
            return []
        try:
            return await super().get_and_submit_flow_runs()
        except httpx.HTTPError as error:
            if _refused(error):
                raise
            return []

    async def sync_with_backend(self) -> None:
        """The same for its sign of life."""
        try:
            await super().sync_with_backend()
        except httpx.HTTPError as error:
            if _refused(error):
                raise

    async def _submit_run(self, flow_run: Any) -> None:
        """An error while one run is begun would cancel the group of all runs."""
        if self.leaving:  # it was seen just before; nothing has been told of it, so the next worker takes it
            self._submitting_flow_run_ids.discard(flow_run.id)
            return
        self._under_way += 1
        try:
            await super()._submit_run(flow_run)
        except Exception:  # noqa: BLE001 - whatever it is; the run is offered again with the next poll
            traceback.print_exc()
            self._submitting_flow_run_ids.discard(flow_run.id)
        finally:
            self._under_way -= 1

    async def _submit_run_and_capture_errors(self, flow_run: Any, task_status: Any = None) -> Any:
        self._under_way += 1
        try:
            result = await super()._submit_run_and_capture_errors(flow_run, task_status)
            if self._put_off:
                await self._put_off_run(flow_run.id)
            return result
        finally:
            self._under_way -= 1
            self._pids.pop(flow_run.id, None)

    async def run(self, flow_run: Any, configuration: Any, task_status: Any = None) -> Any:
        """Prefect's, with the process noted."""
        status: Any = _Begun(partial(self.begun, flow_run.id), task_status)  # of anyio's TaskStatus all that is used
        return await super().run(flow_run, configuration, status)

    def begun(self, run: UUID, pid: int) -> None:
        """One that was on its way when the others were told to stop is told here."""
        self._pids[run] = pid
        if self._stopped_at is not None:
            self._signal(signal.SIGTERM, [pid])

    async def teardown(self, *exc_info: Any) -> None:
        """Prefect's kills the runs; they do without a worker, and the next one begins no other beside them."""
        if self._pids:
            traceback.print_exception(exc_info[1] if len(exc_info) > 1 else None)
            sys.stderr.flush()
            os._exit(1)
        await super().teardown(*exc_info)

    def told(self, word: str) -> None:
        """`finish`, `stop` or `put off`."""
        self.leaving = True
        self._put_off = word == "put off"
        if word != "finish" and self._stopped_at is None:
            self._stopped_at = time.monotonic()
            self._signal(signal.SIGTERM, self._pids.values())

    async def _put_off_run(self, run: UUID) -> None:
        """Due again at once, for the worker that comes next: its checkpoint is where it goes on."""
        try:
            state = (await self.client.read_flow_run(run)).state
            if state is not None and (state.is_cancelled() or state.is_crashed()):  # the latter while it was importing
                await self.client.set_flow_run_state(run, AwaitingRetry(message=LATER), force=True)
        except Exception:  # noqa: BLE001 - then it stays cancelled, and can be gone on with by hand
            traceback.print_exc()

    async def leave_when_done(self, scope: anyio.CancelScope) -> None:
        """Ends `scope` once it is told to leave and the last run has been reported."""
        idle = 0
        while idle < 2:  # a run that is just being begun is seen the second time
            await anyio.sleep(LOOK_EVERY_S)
            idle = idle + 1 if self.leaving and not self._under_way else 0
            if self._stopped_at is not None and time.monotonic() - self._stopped_at > PATIENCE_S:
                self._signal(signal.SIGKILL, self._pids.values())
        scope.cancel()

    @staticmethod
    def _signal(number: signal.Signals, pids: Iterable[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL and os.getpgid(pid) == pid:
                    os.killpg(pid, number)
                else:
                    os.kill(pid, number)


class _Begun:
    """Passes on what a run's start tells."""

    def __init__(self, note: Callable[[int], None], to: Any) -> None:
        self._note, self._to = note, to

    def started(self, pid: int) -> None:
        self._note(pid)
        if self._to is not None:
            self._to.started(pid)


def _refused(error: httpx.HTTPError) -> bool:
    """Whether the server answered, and did not want this; trying again is no use."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500


async def work(name: str) -> None:
    """Until it is told to leave."""
    patience.soon_again()
    worker = Worker(name)
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(worker.told, line.strip())
        os._exit(1)  # whoever keeps this process has gone

    threading.Thread(target=listen, daemon=True).start()
    async with anyio.create_task_group() as group:
        group.start_soon(worker.leave_when_done, group.cancel_scope)
        await worker.start(printer=lambda *_, **__: None)


if __name__ == "__main__":
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, lambda *_: None)  # the keeper says when; SIG_IGN would be inherited by the runs
    anyio.run(work, sys.argv[1])
