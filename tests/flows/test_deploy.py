"""`trainserve deploy` against a real server: what it registers, what it keeps alive, and how it ends."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deployed import POOL, Deployed, Server, processes_of
from lamps import PATIENCE_S, ROOT, SMALL, TINY, Command, wait_for
from servers import PrefectServer

from flows.deploy.definitions import definitions
from models.config import Experiment

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1800)]

CRON = f"0 {(datetime.now(UTC) - timedelta(hours=2)).hour} * * *"  # in 22 hours
SLOW = [*SMALL, "--train.batch_size", "4", "--train.epochs", "10000", "--train.patience", "never"]
WAYS = ("name", "entrypoint", "tags", "parameter_openapi_schema", "description", "work_queue_name")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployed")


@pytest.fixture(scope="module")
def deployed(quick_server: PrefectServer, pictures: Path, home: Path) -> Iterator[Deployed]:
    """With a schedule that is not due while the tests last."""
    with Deployed(home, quick_server.api, "--dataset.source", pictures, *TINY, "--cron", CRON) as there:
        yield there


def owned(server: Server) -> dict[str, str]:
    """Automations, by name: their ids."""
    return {name: one["id"] for name, one in server.automations().items()}


def groups_of(pids: list[int]) -> set[int]:
    """Of those that are still there."""
    groups = set()
    for pid in pids:
        with suppress(ProcessLookupError):
            groups.add(os.getpgid(pid))
    return groups


def test_a_run_by_hand_is_carried_out_in_a_process_group_of_its_own(deployed: Deployed):
    server = deployed.server
    run = server.begin("train-by-hand")
    server.wait_until(run, "Running", "Completed")
    pids = processes_of(run)
    assert groups_of(pids) <= set(pids)  # led by the run's own process
    server.wait_until(run, "Completed")
    wait_for(lambda: [worker["status"] for worker in server.workers()] == ["ONLINE"])
    (worker,) = server.workers()
    assert server.get(f"flow_runs/{run}")["labels"]["prefect.worker.name"] == worker["name"]
    (folder,) = deployed.runs_at.glob("[0-9]*")
    assert (folder / "verdict.json").exists()


def test_a_stored_model_is_judged_again(deployed: Deployed):
    (folder,) = deployed.runs_at.glob("[0-9]*")
    before = json.loads((folder / "verdict.json").read_text())
    run = deployed.server.begin("release", model=f"lamps@{folder.name}")
    deployed.server.wait_until(run, "Completed")
    assert deployed.server.get(f"flow_runs/{run}")["work_queue_name"] == "light"
    assert json.loads((folder / "verdict.json").read_text())["challenger_accuracy"] == before["challenger_accuracy"]


def test_a_wrong_value_is_refused_before_the_run_exists(deployed: Deployed):
    server = deployed.server
    identity = server.deployments()["train-by-hand"]["id"]
    before = len(server.runs("train-by-hand"))
    wrong = {"parameters": {"experiment": {"train": {"epochs": 0}}}}
    done = server.ask("POST", f"deployments/{identity}/create_flow_run", wrong)
    assert done.status_code == 409
    assert "epochs" in done.text
    assert len(server.runs("train-by-hand")) == before


def test_a_second_one_in_the_same_home_says_so(deployed: Deployed):
    done = Command(deployed.home, deployed.env)("deploy", *deployed.tokens)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        f"another `trainserve deploy` works in {deployed.home / 'trainserve'} already; "
        "end that one first, or set TRAINSERVE_HOME"
    )


def test_prefect_deploy_makes_the_same_deployments_from_the_file(deployed: Deployed, tmp_path: Path):
    """Those of `trainserve deploy`, but for how a worker starts them."""
    server, checkout = deployed.server, tmp_path / "checkout"
    before, defaults = server.deployments(), {one.name: one.parameters for one in definitions(Experiment())}
    checkout.mkdir()
    shutil.copy(ROOT / "prefect.yaml", checkout)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    patient = {"PWD": str(checkout), "PREFECT_CLIENT_MAX_RETRIES": "8"}  # with a server that is busy
    done = subprocess.run(
        command, cwd=checkout, env=deployed.env | patient, capture_output=True, text=True, timeout=2 * PATIENCE_S
    )
    assert done.returncode == 0, done.stderr + done.stdout
    after = server.deployments()
    assert after.keys() == before.keys()
    for name, one in after.items():
        assert one["id"] == before[name]["id"]
        assert one["pull_steps"] in ([], None)
        assert one["job_variables"]["command"] == "python -m flows.deploy.engine"
        assert one["job_variables"]["working_dir"] == str(checkout)
        assert {way: one[way] for way in WAYS} == {way: before[name][way] for way in WAYS}
        assert one["enforce_parameter_schema"]
        assert one["parameters"] == defaults[name]


def test_sigterm_leaves_the_schedule_active_and_the_same_again_writes_nothing(deployed: Deployed):
    server = deployed.server
    assert deployed.stop() == 0
    deployed.start()  # over what `prefect deploy` has written
    before, automations = server.deployments(), owned(server)
    (schedule,) = before["train"]["schedules"]
    assert schedule["active"]
    assert not before["train"]["paused"]
    wait_for(lambda: bool(server.runs("train")))  # the scheduler has made the next one

    assert deployed.stop() == 0
    stopped = server.deployments()
    assert stopped["train"]["schedules"] == [schedule]
    assert not stopped["train"]["paused"]
    coming = {run["id"] for run in server.runs("train") if run["state"]["name"] == "Scheduled"}
    assert coming

    deployed.start()
    assert f"pipeline/train           at {CRON!r} (UTC); as before" in deployed.said()
    again = server.deployments()
    assert {name: one["updated"] for name, one in again.items()} == {n: one["updated"] for n, one in before.items()}
    assert again["train"]["schedules"] == [schedule]
    assert owned(server) == automations
    assert coming <= {run["id"] for run in server.runs("train")}


def test_what_a_person_switched_off_stays_off_and_what_was_deleted_is_made_again(deployed: Deployed):
    """Of what the last command asked for: switched off for a holiday, deleted by mistake, or never made, by a kill."""
    server = deployed.server
    deployed.stop()
    (schedule,) = server.deployments()["train"]["schedules"]
    server.patch(f"deployments/{server.deployments()['train']['id']}/schedules/{schedule['id']}", active=False)
    (asked,) = [one for name, one in server.automations().items() if "retrain.requested" in name]
    server.delete(f"automations/{asked['id']}")
    deployed.start()
    assert f"at {CRON!r} (UTC); as before; it is switched off in the Prefect UI, and stays so" in deployed.said()
    assert any("retrain.requested" in name for name in server.automations())

    deployed.stop()
    (upkeep,) = server.deployments()["maintain"]["schedules"]
    server.delete(f"deployments/{server.deployments()['maintain']['id']}/schedules/{upkeep['id']}")
    server.delete(f"work_pools/{POOL}")
    deployed.tokens += ["--timezone", "Europe/Berlin"]
    deployed.start()
    there = server.deployments()
    assert {one["work_pool_name"] for one in there.values()} == {POOL}
    assert [one["schedule"]["cron"] for one in there["maintain"]["schedules"]] == ["17 * * * *"]
    (train,) = there["train"]["schedules"]
    assert (train["schedule"]["timezone"], train["active"]) == ("Europe/Berlin", False)
    deployed.tokens = deployed.tokens[:-2]


@contextmanager
def written_to(database: Path, *, seconds: float) -> Iterator[None]:
    """By somebody else, all the time: whoever has read in a transaction cannot write in it any more."""

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=PATIENCE_S, isolation_level=None)) as connection:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("PRAGMA user_version = 1")
                time.sleep(0.3)
                connection.execute("COMMIT")

    with ThreadPoolExecutor(1) as other:
        writing = other.submit(write)
        yield
        writing.result()


def test_a_server_that_is_too_busy_is_asked_again_and_without_cron_no_schedule_and_no_run_to_come_is_left(
    deployed: Deployed, quick_server: PrefectServer
):
    server = deployed.server
    deployed.stop()
    deployed.tokens = [*deployed.tokens[:-2], "--train.seed", "7"]
    deployed.env["PREFECT_CLIENT_MAX_RETRIES"] = "0"  # of Prefect's own, which are spent in half a minute
    with written_to(quick_server.home / "prefect" / "prefect.db", seconds=20):
        deployed.start()
    there = server.deployments()
    assert there["train-by-hand"]["parameters"]["experiment"]["train"]["seed"] == 7
    assert there["train"]["schedules"] == []
    assert [run for run in server.runs("train") if run["state"]["name"] == "Scheduled"] == []


def test_sigterm_puts_a_run_off_the_next_start_goes_on_with_it_and_ctrl_c_waits_for_it_and_once_more_has_it_stop(
    deployed: Deployed, quick_server: PrefectServer, pictures: Path, tmp_path: Path
):
    """SIGTERM as when the machine is started again."""
    deployed.stop()  # of two workers either one would take the run
    with Deployed(tmp_path / "other", quick_server.api, "--dataset.source", pictures, *SLOW) as other:
        server = other.server
        run = server.begin("train-by-hand")
        wait_for(lambda: other.epochs() >= 2)
        assert other.stop() == 0
        assert server.state(run)["name"] == "AwaitingRetry"
        before = other.epochs()

        other.start()
        wait_for(lambda: other.epochs() > before)
        (folder,) = other.runs_at.glob("[0-9]*")
        epochs = [json.loads(line)["epoch"] for line in (folder / "history.jsonl").read_text().splitlines()]
        assert epochs == list(range(len(epochs)))
        assert f"going on with run {folder.name} from step " in (folder / "run.log").read_text()
        assert server.get(f"flow_runs/{run}")["run_count"] == 2

        waiting = server.begin("train-by-hand")
        assert other.process is not None
        other.process.send_signal(signal.SIGINT)
        wait_for(lambda: "the one under way is waited for" in other.said())
        assert server.state(run)["name"] == "Running"
        assert other.stop(signal.SIGINT) == 0
        state = server.state(run)
        assert (state["name"], state["type"]) == ("Cancelled", "CANCELLED")
        assert list((folder / "checkpoint").glob("*.pt"))
        assert f"`trainserve run --resume {folder.name}` goes on with it" in other.said()
        assert server.state(waiting)["name"] in ("Scheduled", "Late")  # the queue holds one training at a time
        assert not processes_of(run)
        server.post(f"flow_runs/{waiting}/set_state", state={"type": "CANCELLED"}, force=True)
