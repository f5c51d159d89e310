"""`trainserve retrain`: an event, and the one run that it begins in its cool-down."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from deployed import Deployed
from lamps import TINY, Command, environment
from servers import PrefectServer

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]

COOL_DOWN_MIN = 20  # more than two commands take on any machine; that it is over, its database is told


@pytest.fixture(scope="module")
def deployed(
    quick_server: PrefectServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Registered and then ended: what is asked for waits, and can be counted."""
    home = tmp_path_factory.mktemp("retrain")
    cool_down = ["--cool-down", str(COOL_DOWN_MIN)]
    with Deployed(home, quick_server.api, "--dataset.source", pictures, *TINY, *cool_down) as there:
        there.stop()
        yield there


def test_the_first_request_begins_a_run_with_its_reason_and_a_second_one_does_not(
    deployed: Deployed, quick_server: PrefectServer
):
    command, server = Command(deployed.home, deployed.env), deployed.server
    first = command("retrain", "--reason", "new pictures, {{ seven }}")
    assert first.returncode == 0, first.stderr
    (run,) = server.runs("train-by-hand")
    assert f"/runs/flow-run/{run['id']}" in first.stdout
    assert run["parameters"]["reason"] == "new pictures, {{ seven }}"
    assert run["parameters"]["experiment"] == server.deployments()["train-by-hand"]["parameters"]["experiment"]

    second = command("retrain", "--reason", "once more")
    assert second.returncode == 0, second.stderr
    assert f"no further run: {run['name']} was asked for" in second.stdout
    assert len(server.runs("train-by-hand")) == 1

    the_cool_down_passes(quick_server.home / "prefect" / "prefect.db")
    third = command("retrain", "--reason", "later")
    assert "is to train" in third.stdout
    assert len(server.runs("train-by-hand")) == 2


def the_cool_down_passes(database: Path) -> None:
    """In a moment: what the server knows of requests happened as much earlier."""

    def earlier(text: str) -> str:
        return str(datetime.fromisoformat(text) - timedelta(minutes=COOL_DOWN_MIN))

    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.create_function("earlier", 1, earlier, deterministic=True)
        connection.execute('UPDATE automation_bucket SET start = earlier(start), "end" = earlier("end")')
        connection.execute("UPDATE flow_run SET created = earlier(created)")


def test_an_automation_that_is_switched_off_is_named(deployed: Deployed):
    server = deployed.server
    ((name, automation),) = [(n, one) for n, one in server.automations().items() if "retrain.requested" in n]
    server.patch(f"automations/{automation['id']}", enabled=False)
    done = Command(deployed.home, deployed.env)("retrain", "--reason", "x")
    assert done.returncode == 2
    assert f"the automation {name!r} is switched off" in done.stderr


def test_without_a_server_nothing_is_started_to_lose_the_request(tmp_path: Path):
    done = Command(tmp_path, environment(tmp_path))("retrain", "--reason", "x")
    assert done.returncode == 2
    assert "a request has to reach one that stays; run `prefect server start`" in done.stderr
    assert not [*tmp_path.rglob("prefect.db"), *tmp_path.rglob("prefect-server.log")]


def test_a_server_that_knows_of_no_deployment_says_so_before_anything_is_sent(deployed: Deployed):
    server = deployed.server
    for automation in server.automations().values():
        server.delete(f"automations/{automation['id']}")
    done = Command(deployed.home, deployed.env)("retrain", "--reason", "x")
    assert done.returncode == 2
    assert "no automation on the server" in done.stderr
    assert "run `trainserve deploy`" in done.stderr
