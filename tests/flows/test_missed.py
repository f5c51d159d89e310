"""Runs by the clock that wait, against a real server and worker: of those that were missed one happens."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from deployed import POOL, Deployed, Server
from lamps import SMALL, TINY, wait_for
from servers import QUICK, PrefectServer

from flows import due
from flows.api import Api, FlowRun
from flows.health import checks_server

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1200)]

OFTEN = "* * * * * */4"  # every four seconds
# Runs that are due so often keep a server on SQLite from everything else, if it makes a hundred of them at every look
# and marks each as late: two minutes ahead are enough, and those that have waited for a while.
CALM = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "30",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "10",
}
LONG = [*SMALL, "--train.batch_size", "4", "--train.epochs", "150", "--train.patience", "never"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with PrefectServer(tmp_path_factory.mktemp("missed-server"), more={**QUICK, **CALM}) as server:
        yield server


@pytest.fixture(scope="module")
def deployed(server: PrefectServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    tokens = ["--dataset.source", pictures, *TINY, "--cron", OFTEN]
    with Deployed(tmp_path_factory.mktemp("missed"), server.api, *tokens, TRAINSERVE_LOOK_SECONDS="2") as there:
        yield there


def runs(deployed: Deployed, **chosen: Any) -> list[dict[str, Any]]:
    """Of `train`, by the clock; those that come are many, and not asked for."""
    began = {"expected_start_time": {"before_": now()}}
    train = {"name": {"any_": ["train"]}}
    return list(deployed.server.post("flow_runs/filter", deployments=train, flow_runs={**began, **chosen}))


def named(*names: str) -> dict[str, Any]:
    return {"state": {"name": {"any_": list(names)}}}


def now() -> str:
    return datetime.now(UTC).isoformat()


def test_of_missed_runs_one_happens_and_stands_for_the_others(deployed: Deployed):
    deployed.stop()
    gone = now()
    time.sleep(16)  # an outage: four come due
    back = now()
    deployed.start()

    def missed() -> list[dict[str, Any]]:
        return runs(deployed, expected_start_time={"after_": gone, "before_": back})

    def collapsed() -> list[dict[str, Any]]:
        return [run for run in missed() if run["state"]["name"] == "Collapsed"]

    def made_up_for() -> bool:
        """By one of them, or by a later one that they were collapsed into as well."""
        happened = runs(deployed, **named("Completed"), expected_start_time={"after_": gone})
        return bool(happened) and len(collapsed()) >= len(missed()) - 1

    wait_for(made_up_for, timeout_s=480, every_s=1)
    assert len(collapsed()) >= 3
    assert all("stands for" in run["state"]["message"] for run in collapsed())


def test_runs_that_come_due_while_one_is_under_way_are_skipped_where_the_schedule_says_so(
    deployed: Deployed, pictures: Path
):
    deployed.stop()
    deployed.tokens = ["--dataset.source", str(pictures), *LONG, "--cron", OFTEN, "--when-busy", "skip"]
    deployed.start()

    def skipped() -> list[dict[str, Any]]:
        return runs(deployed, **named("Skipped"))

    def without_a_process() -> list[dict[str, Any]]:
        return [run for run in skipped() if run["run_count"] == 0]

    wait_for(lambda: len(skipped()) >= 2 and bool(without_a_process()), timeout_s=480, every_s=1)
    assert all("was under way" in run["state"]["message"] for run in skipped())
    deployed.stop()


@pytest.mark.usefixtures("deployed")  # which made the queues
def test_a_long_training_is_seen_behind_much_that_began_after_it(
    server: PrefectServer, monkeypatch: pytest.MonkeyPatch
):
    """As upkeep does, every hour."""
    monkeypatch.setattr(due, "LATEST", 5)
    asked = Server(server.api)
    flow = asked.post("flows/", name="long")["id"]

    def began(name: str, queue: str) -> str:
        running = {"type": "RUNNING", "name": "Running"}
        told = {"flow_id": flow, "name": name, "state": running, "work_pool_name": POOL, "work_queue_name": queue}
        return str(asked.post("flow_runs/", **told)["id"])

    days = began("days", "training")
    for _ in range(due.LATEST + 1):
        began("upkeep", "light")
    waiting = FlowRun(id=uuid4(), name="night", tags=(due.SKIP,), work_queue_name="training")
    with Api(server.api) as api:
        assert "days" in [run.name for run in due.in_the_way(api, [waiting])]
        assert due.in_the_way(api, [waiting.model_copy(update={"tags": ()})]) == []
    asked.delete(f"flow_runs/{days}")  # it would hold the queue's one place


def test_a_schedule_whose_runs_wait_for_nothing_is_told_also_by_upkeep_which_is_under_way_itself(
    deployed: Deployed, server: PrefectServer
):
    deployed.stop()
    asked, later = deployed.server, datetime.now(UTC) + timedelta(minutes=10)
    upkeep = asked.begin("maintain")
    asked.post(f"flow_runs/{upkeep}/set_state", state={"type": "RUNNING", "name": "Running"}, force=True)
    wait_for(lambda: bool(runs(deployed, **named("Scheduled", "Late"))), timeout_s=120)
    with Api(server.api) as api:
        said = [found.message for found in checks_server.schedules(api, later) if found.level == "wrong"]
    assert any(message.startswith("train was due") for message in said)
