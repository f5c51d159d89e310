"""The Prefect server by its REST interface: one short question, one answer, soon or not at all.

For what watches runs from the side: threads that look again in a few seconds anyway, the doctor. The clearing up, and
what has to be written, such as a promotion's event, are given patience. What runs do, Prefect's own client reports
(flows.patience).
"""

import random
import time
from datetime import datetime
from types import TracebackType
from typing import Annotated, Any, Self
from uuid import UUID

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from flows import server

TIMEOUT_S = 5.0
MOST = 200  # what the server gives at once
NEWEST = "START_TIME_DESC"
BUSY = httpx.codes.SERVICE_UNAVAILABLE  # its SQLite refuses who has read and then writes, if another one wrote between
BUSY_S = 10.0  # for as long it is asked again
TAKEN_S = 120.0  # what has to be written is tried for as long, also where the server is away or stands still
PAUSE_S = (0.3, 1.0)  # before it is asked again; by chance, or two that disturb each other would do so again

Away = httpx.HTTPError
"""The server did not answer, or not as it should have."""


class State(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    name: str
    timestamp: datetime
    message: str | None = None


class FlowRun(BaseModel):
    """What of a flow run matters here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    name: str
    deployment_id: UUID | None = None
    work_queue_name: str | None = None
    expected_start_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    auto_scheduled: bool = False
    run_count: int = 0
    tags: tuple[str, ...] = ()
    labels: Annotated[dict[str, Any], BeforeValidator(lambda given: given or {})] = Field(default_factory=dict)
    infrastructure_pid: str | None = None
    state: State | None = None

    @property
    def type(self) -> str:
        """SCHEDULED, PENDING, RUNNING, CANCELLING, COMPLETED, FAILED, CRASHED, CANCELLED, PAUSED."""
        return self.state.type if self.state else "PENDING"


class Api:
    """`with Api(url) as api: api.get("health")`. Every call may raise `Away`: where the server is too busy, after
    `busy_s`; where it is away, after `away_s`, by default at once."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, busy_s: float = BUSY_S, away_s: float = 0.0) -> None:
        self._client = httpx.Client(base_url=f"{url.rstrip('/')}/", timeout=timeout_s, headers=server.authorization())
        self._busy_s, self._away_s = busy_s, away_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._client.close()

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Whatever it answers, also a refusal. Raises `Away` only if there is no answer."""
        began = time.monotonic()
        while True:
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError:
                if time.monotonic() - began >= self._away_s:
                    raise
            else:
                if answer.status_code != BUSY or time.monotonic() - began >= self._busy_s:
                    return answer
            time.sleep(random.uniform(*PAUSE_S))

    def get(self, path: str) -> Any:
        return self._done(self.ask("GET", path))

    def post(self, path: str, body: object) -> Any:
        return self._done(self.ask("POST", path, body))

    def patch(self, path: str, body: object) -> Any:
        return self._done(self.ask("PATCH", path, body))

    def delete(self, path: str) -> None:
        answer = self.ask("DELETE", path)
        if answer.status_code != httpx.codes.NOT_FOUND:  # gone is gone
            answer.raise_for_status()

    def flow_runs(
        self, chosen: dict[str, object], *, sort: str = "START_TIME_DESC", limit: int = MOST
    ) -> list[FlowRun]:
        """`chosen` as POST /flow_runs/filter takes it."""
        found = self.post("flow_runs/filter", {**chosen, "sort": sort, "limit": limit})
        return [FlowRun.model_validate(one) for one in found]

    def set_state(self, run: UUID, type_: str, name: str, message: str, *, at: datetime | None = None) -> bool:
        """Whether the server took it: a run that has ended meanwhile keeps its state. `at` is for SCHEDULED."""
        details = {} if at is None else {"state_details": {"scheduled_time": at.isoformat()}}
        state = {"type": type_, "name": name, "message": message, **details}
        answer = self.post(f"flow_runs/{run}/set_state", {"state": state, "force": False})
        return bool(answer["status"] == "ACCEPT")

    @staticmethod
    def _done(answer: httpx.Response) -> Any:
        answer.raise_for_status()
        return answer.json() if answer.content else None


def lasting(*, timeout_s: float = TIMEOUT_S, busy_s: float = BUSY_S, away_s: float = 0.0) -> Api | None:
    """The server that the user has chosen; None where there is none, or one that ends with this process."""
    url = server.configured()
    if url is None or server.is_ours():
        return None
    return Api(url, timeout_s=timeout_s, busy_s=busy_s, away_s=away_s)


def why(error: Away) -> str:
    """In a few words, for people."""
    match error:
        case httpx.HTTPStatusError():
            status = error.response.status_code
            return "it is busy" if status == BUSY else f"it answers with status {status}"
        case httpx.TimeoutException():
            return "it does not answer in time"
        case _:
            return " ".join(str(error).split()) or type(error).__name__
