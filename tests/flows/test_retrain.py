"""`trainserve retrain`: an event, and the one run that it begins in its cool-down."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import Deployed, processes
from lamps import TINY, Command, environment
from servers import PrefectServer

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(300)]

COOL_DOWN_S = 12.0


@pytest.fixture(scope="module")
def deployed(
    quick_server: PrefectServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Registered and then ended: what is asked for waits, and can be counted."""
    home = tmp_path_factory.mktemp("retrain")
    cool_down = str(COOL_DOWN_S / 60)
    with Deployed(home, quick_server.api, "--dataset.source", pictures, *TINY, "--cool-down", cool_down) as there:
        there.stop()
        yield there


def test_the_first_request_begins_a_run_with_its_reason_and_a_second_one_does_not(deployed: Deployed):
    command, server = Command(deployed.home, deployed.env), deployed.server
    began = time.monotonic()
    first = command("retrain", "--reason", "new pictures, {{ seven }}")
    assert first.returncode == 0, first.stderr
    (run,) = server.runs("train-by-hand")
    assert f"/runs/flow-run/{run['id']}" in first.stdout
    assert run["parameters"]["reason"] == "new pictures, {{ seven }}"
    assert run["parameters"]["experiment"] == server.deployments()["train-by-hand"]["parameters"]["experiment"]

    second = command("retrain", "--reason", "once more")
    assert second.returncode == 0, second.stderr
    if time.monotonic() - began < COOL_DOWN_S:  # else the machine was too busy for a second request in time
        assert f"no further run: {run['name']} was asked for" in second.stdout
        assert len(server.runs("train-by-hand")) == 1

    time.sleep(max(0.0, COOL_DOWN_S - (time.monotonic() - began)) + 1)
    third = command("retrain", "--reason", "later")
    assert "is to train" in third.stdout
    assert len(server.runs("train-by-hand")) == 2


def test_an_automation_that_is_switched_off_is_named(deployed: Deployed):
    server = deployed.server
    ((name, automation),) = [(n, one) for n, one in server.automations().items() if "retrain.requested" in n]
    server.patch(f"automations/{automation['id']}", enabled=False)
    done = Command(deployed.home, deployed.env)("retrain", "--reason", "x")
    assert done.returncode == 2
    assert f"the automation {name!r} is switched off" in done.stderr


def test_without_a_server_nothing_is_started_to_lose_the_request(tmp_path: Path):
    before = set(processes("prefect"))
    done = Command(tmp_path, environment(tmp_path))("retrain", "--reason", "x")
    assert done.returncode == 2
    assert "a request has to reach one that stays; run `prefect server start`" in done.stderr
    assert set(processes("prefect")) <= before


def test_a_server_that_knows_of_no_deployment_says_so_before_anything_is_sent(deployed: Deployed):
    server = deployed.server
    for automation in server.automations().values():
        server.delete(f"automations/{automation['id']}")
    done = Command(deployed.home, deployed.env)("retrain", "--reason", "x")
    assert done.returncode == 2
    assert "no automation on the server" in done.stderr
    assert "run `trainserve deploy`" in done.stderr
