"""`trainserve doctor --fix` and `maintain`, against a server on which things have been broken on purpose."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deployed import POOL, Deployed, Server
from lamps import TINY, Command, wait_for
from servers import PrefectServer

from flows import leases
from flows.deploy.automations import DEAD_RUNS
from flows.events import SILENT
from flows.health.reaper import SETTLING

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1800)]

UNASKED = ("could not be", "does not answer")  # said of a server that is busy


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def deployed(quick_server: PrefectServer, pictures: Path, home: Path) -> Iterator[Deployed]:
    """It does not look for dead runs itself while the tests last."""
    tokens = ["--dataset.source", pictures, *TINY, "--cron", "0 3 1 1 *"]
    with Deployed(home, quick_server.api, *tokens, TRAINSERVE_LOOK_SECONDS="6000") as there:
        yield there


@dataclass
class Said:
    """By the doctor."""

    status: int
    wrong: dict[str, str]
    fixed: list[str]


def doctor(deployed: Deployed, *tokens: str) -> Said:
    """Called again while the server is too busy to be asked; `fixed` is what was mended by then."""
    said = Said(0, {}, [])

    def asked() -> bool:
        done = Command(deployed.home, deployed.env)("doctor", *tokens, "--json")
        assert done.stdout, done.stderr
        tree = json.loads(done.stdout)
        said.status = done.returncode
        said.wrong = {one["what"]: one["message"] for one in tree["checks"] if one["level"] == "wrong"}
        said.fixed += [one for one in tree.get("fixed", []) if UNASKED[0] not in one]
        return not any(words in message for message in said.wrong.values() for words in UNASKED)

    wait_for(asked, said=lambda: said)
    return said


def all_is_well(deployed: Deployed) -> bool:
    """The server's scheduler has its own pace."""
    found = doctor(deployed)
    assert found.wrong.keys() <= {"schedule"}
    assert (found.status != 0) == bool(found.wrong)
    return not found.wrong


def dead_run(server: Server) -> str:
    """As a power cut leaves it."""
    identity = server.deployments()["train-by-hand"]["id"]
    run = server.post(f"deployments/{identity}/create_flow_run", state={"type": "RUNNING", "name": "Running"})["id"]
    (worker,) = server.workers()
    server.patch(f"flow_runs/{run}/labels", **{"prefect.worker.name": worker["name"]})
    begun = datetime.fromisoformat(server.state(run)["timestamp"])
    wait_for(lambda: datetime.now(UTC) - begun > SETTLING)
    return str(run)


def test_what_is_broken_is_named_and_mended_and_the_second_time_there_is_nothing_to_do(deployed: Deployed):
    server = deployed.server
    wait_for(lambda: all_is_well(deployed))
    train = server.deployments()["train"]
    server.patch(f"work_pools/{POOL}/queues/training", is_paused=True)
    server.patch(f"deployments/{train['id']}/schedules/{train['schedules'][0]['id']}", active=False)
    server.delete(f"automations/{server.automations()[DEAD_RUNS]['id']}")
    limit = leases.limit_name("cpu-0")
    server.post("v2/concurrency_limits/", name=limit, limit=1, active_slots=1)
    run = dead_run(server)

    found = doctor(deployed)
    assert found.status == 1
    assert found.wrong["queue"] == "training is paused, so its runs wait"
    assert found.wrong["schedule"] == "that of train is switched off"
    assert found.wrong["automation"] == "the one that marks dead runs is missing"
    assert found.wrong["place"] == f"{limit} is counted as taken, and nobody trains there"
    assert "its process is gone" in found.wrong["run"]

    mended = doctor(deployed, "--fix")
    for thing in ("queue training", "schedule of train", "marks dead runs", limit, "its process is gone"):
        assert any(thing in sentence for sentence in mended.fixed)
    assert server.deployments()["train"]["schedules"][0]["active"]
    assert server.automations()[DEAD_RUNS]["enabled"]
    assert server.get(f"v2/concurrency_limits/{limit}")["active_slots"] == 0
    assert "Crashed" in server.states(run)
    server.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLED"}, force=True)  # it need not go on
    wait_for(lambda: all_is_well(deployed))
    assert doctor(deployed, "--fix").fixed == []


def test_a_schedule_that_is_switched_off_is_told_of_once_a_day(deployed: Deployed):
    server = deployed.server
    train = server.deployments()["train"]
    schedule = f"deployments/{train['id']}/schedules/{train['schedules'][0]['id']}"
    silent = {"event": {"name": [SILENT]}}

    def told() -> list[str]:
        return [one["payload"]["body"] for one in server.post("events/filter", filter=silent)["events"]]

    server.patch(schedule, active=False)
    server.wait_until(server.begin("maintain"), "Completed")
    wait_for(lambda: told() == ["that of train is switched off"])
    again = server.begin("maintain")
    server.wait_until(again, "Completed")

    def logged() -> str:
        return str(server.post("logs/filter", logs={"flow_run_id": {"any_": [again]}}))

    wait_for(lambda: "that of train is switched off" in logged())
    assert len(told()) == 1
    server.patch(schedule, active=True)


def test_a_server_that_does_not_answer_is_one_line(deployed: Deployed):
    done = Command(deployed.home, {**deployed.env, "PREFECT_API_URL": "http://127.0.0.1:9/api"})("doctor")
    assert done.returncode == 1
    assert done.stdout.count("does not answer") == 1


def test_maintain_deletes_what_is_old_with_its_artifacts_and_nothing_else(deployed: Deployed):
    server = deployed.server
    run = server.begin("train-by-hand", changes=["name=old"])
    server.wait_until(run, "Completed")
    assert server.artifacts(run)
    (folder,) = [path for path in deployed.runs_at.glob("[0-9]*") if (path / "verdict.json").exists()]
    held = folder.name  # it made the champion
    keep = {"runs_days": 0, "runs_at_least": 0, "folders_days": 0, "folders_at_least": 0, "cache_gb": 0}
    upkeep = server.begin("maintain", keep=keep)
    server.wait_until(upkeep, "Completed")
    assert not server.post("flow_runs/filter", flow_runs={"id": {"any_": [run]}})
    assert not server.artifacts(run)
    wait_for(lambda: not server.post("logs/filter", logs={"flow_run_id": {"any_": [run]}}))
    assert (deployed.runs_at / held).is_dir()
    assert not list((deployed.home / "trainserve/images").glob("[!.]*"))
    artifacts = server.artifacts(upkeep)
    assert [one["key"] for one in artifacts] == ["upkeep"]
    assert "1 cache" in artifacts[0]["data"]
