"""Whole runs that report to a server which is busy, or dies while they train."""

import json
from collections import Counter
from pathlib import Path

import httpx
import pytest
from busy import Gate
from lamps import SMALL, TINY, Command, environment, wait_for
from servers import PrefectServer

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(400)]

REFUSED = 6  # as often as Prefect's client would ask by itself


def test_a_run_whose_states_are_refused_again_and_again_is_completed(
    quick_server: PrefectServer, pictures: Path, tmp_path: Path
):
    tries: Counter[str] = Counter()
    limits: list[str] = []

    def refuses(path: str, body: bytes) -> bool:
        if "/increment-with-lease" in path:
            limits.extend(json.loads(body)["names"])
        if not path.endswith("/set_state"):
            return False
        state = json.loads(body)["state"]["type"]
        tries[state] += 1
        return tries[state] <= REFUSED

    with Gate(quick_server.port, refuses) as gate:
        command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=gate.api))
        done = command("run", "--dataset.source", pictures, *TINY, "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["flow_run_url"].rpartition("/")[2]
    assert httpx.get(f"{quick_server.api}/flow_runs/{run}").json()["state"]["name"] == "Completed"
    assert tries == {"RUNNING": REFUSED + 1, "COMPLETED": REFUSED + 1}
    assert "the Prefect server is busy or away: waiting for it" in done.stderr
    assert not [name for name in limits if name.startswith("tag:")]  # tasks begin without asking


def test_a_server_that_dies_while_it_trains_costs_the_run_nothing(pictures: Path, tmp_path: Path):
    with PrefectServer(tmp_path / "server") as server:
        env = environment(tmp_path, PREFECT_API_URL=server.api, PREFECT_CLIENT_MAX_RETRIES="1")
        settings = [*SMALL, "--train.epochs", "40", "--train.patience", "never", "--train.batch_size", "8"]
        process = Command(tmp_path, env).start("run", "--dataset.source", pictures, *settings, "--json")
        wait_for(lambda: any(tmp_path.glob("trainserve/runs/*/history.jsonl")), timeout_s=180)
        server.kill()
        out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert json.loads(out)["verdict"]["reason"]
    assert "the Prefect server did not hear that this run has ended, and may call it dead: " in said
    assert "Traceback" not in said
