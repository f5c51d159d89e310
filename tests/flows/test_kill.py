"""`kill -9` in the middle of training, then the same command: as if nothing had happened."""

import json
import signal
from pathlib import Path

import pytest
from lamps import SMALL, Command, environment, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.slow]

LONG = [*SMALL, "--train.epochs", "40", "--train.patience", "39", "--train.batch_size", "4"]


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_an_undisturbed_one(
    prefect_server: str, pictures: Path, tmp_path: Path
):
    api = {"PREFECT_API_URL": f"{prefect_server}/api"}
    command = Command(tmp_path, environment(tmp_path / "killed", **api))
    asked = ["run", "--dataset.source", pictures, *LONG, "--json"]
    process = command.start(*asked)
    wait_for(lambda: epochs_done(tmp_path) >= 3 or process.poll() is not None, timeout_s=120, every_s=0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = epochs_done(tmp_path)
    assert before < 40  # it was in the middle

    resumed = json.loads(command(*asked).stdout)
    undisturbed = json.loads(Command(tmp_path, environment(tmp_path / "other", **api))(*asked).stdout)
    assert len(list((tmp_path / "killed/trainserve/runs").glob("[0-9]*"))) == 1
    assert weights(resumed) == weights(undisturbed)
    assert resumed["metrics"]["test"] == undisturbed["metrics"]["test"]


def epochs_done(home: Path) -> int:
    files = list(home.glob("killed/trainserve/runs/*/history.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def weights(outcome: dict[str, str]) -> bytes:
    return (Path(outcome["run_folder"]) / "weights.safetensors").read_bytes()
