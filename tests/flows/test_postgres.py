"""PostgreSQL as Prefect's database: one variable, and runs, cancels and artifacts are kept there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import PostgreSQL, tools
from deployed import Deployed
from lamps import SMALL, TINY, Command, environment, wait_for
from servers import QUICK, PrefectServer

pytestmark = [
    pytest.mark.flow,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(tools() is None, reason="wants PostgreSQL; on Debian and Ubuntu: apt-get install postgresql"),
]

VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
FOREVER = ["--train.batch_size", "16", "--train.epochs", "5000", "--train.patience", "4999"]


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    found = tools()
    assert found is not None
    with PostgreSQL(found) as database:
        yield database


@pytest.fixture(scope="module")
def server(database: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with PrefectServer(tmp_path_factory.mktemp("on-postgresql"), more={**QUICK, VARIABLE: database.url}) as server:
        yield server
    assert not list(server.home.rglob("prefect.db"))


def test_a_run_leaves_its_states_logs_events_and_artifacts_there(
    database: PostgreSQL, server: PrefectServer, pictures: Path, tmp_path: Path
):
    command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=server.api))
    done = command("run", "--dataset.source", pictures, *TINY, "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["flow_run_url"].rpartition("/")[2]
    assert database.ask(f"select state_type from flow_run where id = '{run}'") == [["COMPLETED"]]
    tasks = f"select name from task_run where flow_run_id = '{run}' and state_type = 'COMPLETED'"
    stages = {"prepare", "train", "evaluate", "export", "release"}
    wait_for(lambda: {name for (name,) in database.ask(tasks)} == stages, timeout_s=120)
    for table in ("log", "events", "artifact"):
        wait_for(lambda table=table: database.ask(f"select count(*) from {table}") != [["0"]], timeout_s=120)


def test_a_run_of_a_deployment_is_carried_out_and_cancelled(
    database: PostgreSQL, server: PrefectServer, pictures: Path, tmp_path: Path
):
    with Deployed(tmp_path, server.api, "--dataset.source", pictures, *SMALL, *FOREVER) as deployed:
        run = deployed.server.begin("train")
        wait_for(lambda: deployed.epochs() > 0, timeout_s=300)
        deployed.server.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
        state = f"select state_type from flow_run where id = '{run}'"
        wait_for(lambda: database.ask(state) == [["CANCELLED"]], timeout_s=180)
    assert "Traceback" not in deployed.said()
