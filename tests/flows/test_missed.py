"""Runs by the clock that wait, against a real server and worker: of those that were missed one happens."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from deployed import POOL, Deployed, Server
from lamps import SMALL, TINY, wait_for
from servers import PrefectServer

from flows import due
from flows.api import Api, FlowRun
from flows.health import checks_server

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]

OFTEN = "* * * * * */4"  # every four seconds
LONG = [*SMALL, "--train.batch_size", "4", "--train.epochs", "150", "--train.patience", "never"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("missed")


@pytest.fixture(scope="module")
def deployed(quick_server: PrefectServer, pictures: Path, home: Path) -> Iterator[Deployed]:
    tokens = ["--dataset.source", pictures, *TINY, "--cron", OFTEN]
    with Deployed(home, quick_server.api, *tokens, TRAINSERVE_LOOK_SECONDS="2") as there:
        yield there


def names(deployed: Deployed) -> Counter[str]:
    """Names of the states of all runs of `train`."""
    return Counter(run["state"]["name"] for run in deployed.server.runs("train"))


def test_missed_runs_are_collapsed_into_the_newest_which_happens(deployed: Deployed):
    deployed.stop()
    before = names(deployed)
    time.sleep(16)  # an outage: four come due
    deployed.start()
    done = before["Completed"]
    wait_for(lambda: names(deployed)["Completed"] > done, timeout_s=240)
    after = deployed.server.runs("train")
    collapsed = [run for run in after if run["state"]["name"] == "Collapsed"]
    assert len(collapsed) >= 3
    assert all("stands for" in run["state"]["message"] for run in collapsed)
    last = max(run["expected_start_time"] for run in after if run["state"]["name"] == "Completed")
    assert last > min(run["expected_start_time"] for run in collapsed)
    assert sum(name in ("Failed", "Crashed") for name in names(deployed).elements()) == 0


def test_runs_that_come_due_while_one_is_under_way_are_skipped_where_the_schedule_says_so(
    deployed: Deployed, pictures: Path
):
    deployed.stop()
    deployed.tokens = ["--dataset.source", str(pictures), *LONG, "--cron", OFTEN, "--when-busy", "skip"]
    deployed.start()
    wait_for(lambda: names(deployed)["Skipped"] >= 2, timeout_s=240)
    skipped = [run for run in deployed.server.runs("train") if run["state"]["name"] == "Skipped"]
    assert all("was under way" in run["state"]["message"] for run in skipped)
    assert any("Running" not in deployed.server.states(run["id"]) for run in skipped)  # without a process being started
    deployed.stop()


@pytest.mark.usefixtures("deployed")  # which made the queues
def test_a_long_training_is_seen_behind_much_that_began_after_it(quick_server: PrefectServer):
    """As upkeep does, every hour."""
    server = Server(quick_server.api)
    flow = server.post("flows/", name="long")["id"]

    def began(name: str, queue: str) -> None:
        running = {"type": "RUNNING", "name": "Running"}
        server.post("flow_runs/", flow_id=flow, name=name, state=running, work_pool_name=POOL, work_queue_name=queue)

    began("days", "training")
    for _ in range(due.LATEST + 1):
        began("upkeep", "light")
    waiting = FlowRun(id=uuid4(), name="night", tags=(due.SKIP,), work_queue_name="training")
    with Api(quick_server.api) as api:
        assert "days" in [run.name for run in due.in_the_way(api, [waiting])]
        assert due.in_the_way(api, [waiting.model_copy(update={"tags": ()})]) == []


def test_a_schedule_whose_runs_wait_for_nothing_is_told_also_by_upkeep_which_is_under_way_itself(
    deployed: Deployed, quick_server: PrefectServer
):
    deployed.stop()
    server, later = deployed.server, datetime.now(UTC) + timedelta(minutes=10)
    upkeep = server.begin("maintain")
    server.post(f"flow_runs/{upkeep}/set_state", state={"type": "RUNNING", "name": "Running"}, force=True)
    wait_for(lambda: names(deployed)["Scheduled"] + names(deployed)["Late"] > 0, timeout_s=30)
    with Api(quick_server.api) as api:
        said = [found.message for found in checks_server.schedules(api, later) if found.level == "wrong"]
    assert any(message.startswith("train was due") for message in said)
