"""`trainserve doctor --fix` and `maintain`, against a server on which things have been broken on purpose."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from deployed import POOL, Deployed
from lamps import TINY, Command, wait_for
from servers import PrefectServer

from flows import leases
from flows.deploy.automations import DEAD_RUNS
from flows.events import SILENT

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def deployed(quick_server: PrefectServer, pictures: Path, home: Path) -> Iterator[Deployed]:
    """It does not look for dead runs itself while the tests last."""
    tokens = ["--dataset.source", pictures, *TINY, "--cron", "0 3 1 1 *"]
    with Deployed(home, quick_server.api, *tokens, TRAINSERVE_LOOK_SECONDS="600") as there:
        yield there


def doctor(deployed: Deployed, *tokens: str) -> tuple[int, dict[str, Any]]:
    done = Command(deployed.home, deployed.env)("doctor", *tokens, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def wrong(said: dict[str, Any]) -> dict[str, str]:
    return {one["what"]: one["message"] for one in said["checks"] if one["level"] == "wrong"}


def test_what_is_broken_is_named_and_mended_and_the_second_time_there_is_nothing_to_do(deployed: Deployed):
    server = deployed.server
    status, before = doctor(deployed)
    assert (status, wrong(before)) == (0, {})
    api = deployed.env["PREFECT_API_URL"]
    httpx.patch(f"{api}/work_pools/{POOL}/queues/training", json={"is_paused": True}).raise_for_status()
    train = server.deployments()["train"]
    (schedule,) = train["schedules"]
    httpx.patch(
        f"{api}/deployments/{train['id']}/schedules/{schedule['id']}", json={"active": False}
    ).raise_for_status()
    httpx.delete(f"{api}/automations/{server.automations()[DEAD_RUNS]['id']}").raise_for_status()
    limit = leases.limit_name("cpu-0")
    server.post("v2/concurrency_limits/", name=limit, limit=1, active_slots=1)

    status, said = doctor(deployed)
    assert status == 1
    found = wrong(said)
    assert found["queue"] == "training is paused, so its runs wait"
    assert found["schedule"] == "that of train is switched off"
    assert found["automation"] == "the one that marks dead runs is missing"
    assert found["place"] == f"{limit} is counted as taken, and nobody trains there"

    status, mended = doctor(deployed, "--fix")
    assert (status, wrong(mended)) == (0, {})
    assert len(mended["fixed"]) == 4
    status, again = doctor(deployed, "--fix")
    assert (status, again["fixed"]) == (0, [])
    assert server.deployments()["train"]["schedules"][0]["active"]
    assert server.automations()[DEAD_RUNS]["enabled"]
    assert server.get(f"v2/concurrency_limits/{limit}")["active_slots"] == 0


def test_a_dead_run_is_marked_by_the_doctor(deployed: Deployed):
    """As a power cut leaves it."""
    server = deployed.server
    identity = server.deployments()["train-by-hand"]["id"]
    run = server.post(f"deployments/{identity}/create_flow_run", state={"type": "RUNNING", "name": "Running"})["id"]
    (worker,) = server.workers()
    labels = {"prefect.worker.name": worker["name"]}
    httpx.patch(f"{server.api}/flow_runs/{run}/labels", json=labels).raise_for_status()
    time.sleep(6)
    status, said = doctor(deployed)
    assert status == 1
    assert "its process is gone" in wrong(said)["run"]
    status, mended = doctor(deployed, "--fix")
    assert status == 0
    assert any("its process is gone" in sentence for sentence in mended["fixed"])
    assert server.state(run)["name"] == "Crashed"
    server.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLED"}, force=True)  # it need not go on


def test_a_schedule_that_is_switched_off_is_told_of_once_a_day(deployed: Deployed):
    server = deployed.server
    train = server.deployments()["train"]
    schedule = f"deployments/{train['id']}/schedules/{train['schedules'][0]['id']}"
    silent = {"event": {"name": [SILENT]}}

    def told() -> list[str]:
        return [one["payload"]["body"] for one in server.post("events/filter", filter=silent)["events"]]

    server.patch(schedule, active=False)
    server.wait_until(server.begin("maintain"), "Completed")
    wait_for(lambda: told() == ["that of train is switched off"], timeout_s=20)
    again = server.begin("maintain")
    server.wait_until(again, "Completed")

    def logged() -> str:
        return str(server.post("logs/filter", logs={"flow_run_id": {"any_": [again]}}))

    wait_for(lambda: "that of train is switched off" in logged(), timeout_s=20)
    assert len(told()) == 1
    server.patch(schedule, active=True)


def test_a_server_that_does_not_answer_is_one_line(deployed: Deployed):
    done = Command(deployed.home, {**deployed.env, "PREFECT_API_URL": "http://127.0.0.1:9/api"})("doctor")
    assert done.returncode == 1
    assert done.stdout.count("does not answer") == 1


def test_maintain_deletes_what_is_old_with_its_artifacts_and_nothing_else(deployed: Deployed):
    server = deployed.server
    run = server.begin("train-by-hand", changes=["name=old"])
    server.wait_until(run, "Completed", timeout_s=180)
    chosen = {"flow_runs": {"id": {"any_": [run]}}}
    assert server.post("artifacts/filter", **chosen)
    (folder,) = [path for path in deployed.runs_at.glob("[0-9]*") if (path / "verdict.json").exists()]
    held = folder.name  # it made the champion
    keep = {"runs_days": 0, "runs_at_least": 0, "folders_days": 0, "folders_at_least": 0, "cache_gb": 0}
    upkeep = server.begin("maintain", keep=keep)
    server.wait_until(upkeep, "Completed", timeout_s=120)
    assert not server.post("flow_runs/filter", flow_runs={"id": {"any_": [run]}})
    assert not server.post("artifacts/filter", **chosen)
    wait_for(lambda: not server.post("logs/filter", logs={"flow_run_id": {"any_": [run]}}), timeout_s=30)
    assert (deployed.runs_at / held).is_dir()
    assert not list((deployed.home / "trainserve/images").glob("[!.]*"))
    artifacts = server.post("artifacts/filter", flow_runs={"id": {"any_": [upkeep]}})
    assert [one["key"] for one in artifacts] == ["upkeep"]
    assert "1 cache" in artifacts[0]["data"]
