"""A Prefect server that is busy, or away for a while: who asks again and for how long, and that it costs no run."""

import asyncio
import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from busy import BusyServer
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client import base
from prefect.client.orchestration import get_client
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from rich.console import Console

from data.errors import InputError
from flows import api, artifacts, engines, events, patience
from flows.api import Api, Away, why
from flows.cli import checkup, running
from flows.console import Display
from flows.deploy import keep, register
from flows.engines import RunnerConfig
from flows.fan import fanned
from flows.leases import Lease

ALWAYS = 10**6
NOWHERE = "http://127.0.0.1:9/api"  # discard: nobody listens


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(api, "PAUSE_S", (0.0, 0.01))
    monkeypatch.setattr(register, "PAUSE_S", (0.0, 0.01))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))


# Requests of our own.


def test_a_busy_server_is_asked_again_until_it_answers():
    with BusyServer(busy=20) as there, Api(there.api) as asked:
        assert asked.get("health") == {}
    assert len(there.asked) == 21


def test_one_that_stays_busy_is_given_up_after_a_while():
    with BusyServer(busy=ALWAYS) as there, Api(there.api, busy_s=0.05) as asked, pytest.raises(Away) as error:
        asked.get("health")
    assert why(error.value) == "it is busy"
    assert len(there.asked) > 1


def test_a_look_does_not_wait_for_a_server_that_is_away():
    began = time.monotonic()
    with Api(NOWHERE) as asked, pytest.raises(Away):
        asked.get("health")
    assert time.monotonic() - began < 1


@pytest.mark.slow
def test_who_has_something_to_write_waits_until_the_server_is_back():
    with BusyServer() as gone:
        pass
    with Api(gone.api, away_s=30) as asked:
        back = BusyServer(port=gone.port)
        threading.Timer(0.3, back.__enter__).start()
        assert asked.get("health") == {}
        back.__exit__()


def test_a_promotion_is_told_to_a_busy_server(monkeypatch: pytest.MonkeyPatch):
    with BusyServer(busy=7) as there:
        monkeypatch.setenv("PREFECT_API_URL", there.api)
        events.tell(events.PROMOTED, "lamps", subject="lamps@1 is in service", body="It is better.")
    assert len(there.asked) == 8
    assert all(request == there.asked[0] for request in there.asked)  # with one id: however often it comes it is one
    ((_, path, (event,)), *_) = there.asked
    assert (path, event["event"]) == ("/events", events.PROMOTED)
    assert event["resource"]["prefect.resource.id"] == "trainserve.model.lamps"
    assert event["payload"]["body"] == "It is better."


@pytest.mark.parametrize("away", [False, True], ids=["busy", "away"])
def test_a_promotion_that_nobody_hears_of_is_one_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, away: bool
):
    monkeypatch.setattr(api, "TAKEN_S", 0.05)
    with BusyServer(busy=ALWAYS) as there, caplog.at_level(logging.WARNING):
        monkeypatch.setenv("PREFECT_API_URL", NOWHERE if away else there.api)
        events.tell(events.PROMOTED, "lamps", subject="lamps@1 is in service", body="It is better.")
    assert f"{events.PROMOTED} is told to nobody: the Prefect server at http://127.0.0.1" in caplog.text


def test_a_lease_that_a_busy_server_did_not_renew_is_kept():
    """A second one beside it would find the place taken."""
    renewed = [503, 503, 200]

    def answer(path: str) -> tuple[int, object]:
        if path.endswith("/renew"):
            return renewed.pop(0), {}
        return 200, {"lease_id": str(uuid4()), "active_slots": 1}

    with BusyServer(answer=answer) as there, Api(there.api, busy_s=0) as asked:
        lease = Lease(asked, ["trainserve-box-cpu-0"])
        lease.hold()
        for _ in range(2):
            with pytest.raises(Away):
                lease.hold()
        lease.hold()
    assert [path for _, path, _ in there.asked].count("/v2/concurrency_limits/increment-with-lease") == 1


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def step() -> str:
        if left:
            raise left.pop()
        return "registered"

    return step


BUSY = httpx.HTTPStatusError("503", request=httpx.Request("POST", NOWHERE), response=httpx.Response(503))
TROUBLES = (BUSY, httpx.ReadTimeout("60 s"), httpx.ConnectError("refused"))


@pytest.mark.parametrize("error", TROUBLES, ids=["busy", "standing still", "started again"])
def test_what_is_registered_is_tried_for_two_minutes(monkeypatch: pytest.MonkeyPatch, error: Exception):
    assert register.patiently(failing(20, error)) == "registered"
    monkeypatch.setattr(register, "TAKEN_S", 0.05)
    with pytest.raises(InputError, match="the Prefect server did not take in 0 s what is to be registered: "):
        register.patiently(failing(ALWAYS // 1000, error))


def test_what_the_server_does_not_want_is_not_tried_again():
    refused = httpx.HTTPStatusError("422", request=BUSY.request, response=httpx.Response(422))
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        register.patiently(failing(1, refused))


def test_the_doctor_and_the_looks_say_in_a_few_words_that_the_server_is_busy():
    def dead_runs() -> Iterator[checkup.Checked]:
        raise BUSY
        yield

    (found,) = checkup.collect([dead_runs])
    assert found.message == "could not be checked: the Prefect server does not tell, it is busy"
    assert keep._guarded(lambda: list(dead_runs())).endswith("did not get through to the Prefect server: it is busy")


# Prefect's own client, which reports what runs do.


@pytest.fixture
def eventless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers here know no websockets."""
    monkeypatch.setattr(EventsWorker, "_client_override", (NullEventsClient, ()))


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch, eventless: None) -> list[str]:  # noqa: ARG001
    """Said of waiting. The pauses are those of a run, but short."""
    monkeypatch.setattr(base, "clamped_poisson_interval", base.clamped_poisson_interval)  # to be put back
    said: list[str] = []
    patience.soon_again(on_wait=said.append, longest_s=0.001)
    return said


@contextmanager
def reporting_to(url: str) -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: patience.RETRIES}):
        yield


def test_a_run_asks_a_busy_server_often_and_soon_and_says_once_that_it_waits(waited: list[str]):
    with (
        BusyServer(busy=40, answer=lambda _: (200, "3.8.8")) as there,
        reporting_to(there.api),
        get_client(sync_client=True) as client,
    ):
        assert client.api_version() == "3.8.8"
    assert waited == ["the Prefect server is busy or away: waiting for it"]


@pytest.mark.slow
@pytest.mark.usefixtures("waited")
def test_so_does_a_worker():
    async def version() -> str:
        async with get_client() as client:
            return str(await client.api_version())

    with BusyServer(busy=40, answer=lambda _: (200, "3.8.8")) as there, reporting_to(there.api):
        assert asyncio.run(version()) == "3.8.8"


@pytest.mark.parametrize(("retries", "minutes"), [(patience.RETRIES, 8), (patience.WATCHED_RETRIES, 2.5)])
def test_the_pauses_add_up_to_minutes(retries: int, minutes: float):
    pauses = [min(2.0**failures, patience.LONGEST_S) for failures in range(1, retries + 1)]
    assert sum(pauses) / 60 == pytest.approx(minutes, rel=0.1)


@artifacts.harmless
def show_something() -> None:
    create_markdown_artifact("# lamps", key="lamps")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # outside of a run
@pytest.mark.usefixtures("waited")
def test_an_artifact_is_left_out_after_a_minute_and_those_that_follow_at_once():
    with BusyServer(busy=artifacts.RETRIES + 3) as there, reporting_to(there.api):
        show_something()
        assert len(there.asked) == artifacts.RETRIES + 1
        show_something()
        show_something()
        assert len(there.asked) == artifacts.RETRIES + 3
        show_something()  # the server is there again
        there.busy = len(there.asked) + 5
        show_something()
    assert len(there.asked) == there.busy + 1


@pytest.fixture
def posted_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "POST_EVERY_S", 0.01)


MADE = {"id": str(UUID(int=7)), "type": "progress", "key": "training-progress"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.usefixtures("waited", "posted_often")
def test_a_training_begins_before_the_server_has_its_bar():
    training = threading.Event()

    def answer(_: str) -> tuple[int, object]:
        return 200 if training.wait(20) else 500, MADE

    with BusyServer(busy=3, answer=answer) as there, reporting_to(there.api):
        with artifacts.progress("training-progress") as bar:
            training.set()
            bar.moved(1.0, "done")
        assert there.asked[-1][2]["data"] == 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.usefixtures("waited", "posted_often")
def test_a_bar_that_was_refused_is_made_later():
    statuses = [500, 500]
    made = threading.Event()

    def answer(_: str) -> tuple[int, object]:
        if statuses:
            return statuses.pop(), {}
        made.set()
        return 201, MADE

    with BusyServer(answer=answer) as there, reporting_to(there.api):
        with artifacts.progress("training-progress") as bar:
            assert made.wait(20)
            bar.moved(1.0, "done")
        assert [method for method, _, _ in there.asked] == ["POST", "POST", "POST", "PATCH"]


def test_the_result_of_a_run_is_shown_though_the_server_did_not_take_its_end():
    out = io.StringIO()
    view = Display(Console(file=out, width=200))

    def flow() -> str:
        view.result = "outcome"
        raise httpx.ConnectError("Connection refused")

    assert running.ended(flow, view=view) == ("outcome", False)
    assert "the Prefect server did not hear that this run has ended" in out.getvalue()


def test_a_run_that_fails_before_its_end_has_no_result():
    def flow() -> str:
        raise httpx.ConnectError("Connection refused")

    with pytest.raises(httpx.ConnectError):
        running.ended(flow, view=Display())


@task
def doubled(number: int) -> int:
    return 2 * number


@pytest.mark.slow  # a process that imports Prefect
@pytest.mark.usefixtures("eventless")
def test_a_task_in_another_process_begins_also_while_the_server_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_API_URL", NOWHERE)
    runner = partial(engines.task_runner, RunnerConfig(kind="processes", workers=1), at_once=1)
    with temporary_settings({PREFECT_API_URL: NOWHERE}), fanned(doubled, runner) as fan:
        fan.give(21)
        assert fan.ended(timeout_s=120) == (21, 42)
