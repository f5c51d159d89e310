"""`kill -9` or SIGTERM in the middle of training, then going on: as if nothing had happened."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deployed import Server
from lamps import PATIENCE_S, SMALL, Command, environment, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1800)]

LONG = [*SMALL, "--train.epochs", "40", "--train.patience", "39", "--train.batch_size", "4"]


@pytest.fixture(scope="module")
def api(prefect_server: str) -> str:
    return f"{prefect_server}/api"


@pytest.fixture(scope="module")
def undisturbed(api: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of these settings tells that nobody disturbs."""
    home = tmp_path_factory.mktemp("undisturbed")
    done = Command(home, environment(home, PREFECT_API_URL=api))("run", "--dataset.source", pictures, *LONG, "--json")
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def ended(process: subprocess.Popen[str], number: signal.Signals, *, once: Callable[[], bool]) -> str:
    """What it said on standard error until the signal ended it, in the middle."""
    wait_for(lambda: once() or process.poll() is not None, every_s=0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE_S)
    return said


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_an_undisturbed_one(
    api: str, pictures: Path, undisturbed: dict[str, Any], tmp_path: Path
):
    command = Command(tmp_path, environment(tmp_path / "killed", PREFECT_API_URL=api))
    asked = ["run", "--dataset.source", pictures, *LONG, "--json"]
    process = command.start(*asked)
    ended(process, signal.SIGKILL, once=lambda: epochs_done(tmp_path) >= 3)
    assert process.returncode == -signal.SIGKILL
    assert epochs_done(tmp_path) < 40  # it was in the middle

    resumed = json.loads(command(*asked).stdout)
    assert len(list((tmp_path / "killed/trainserve/runs").glob("[0-9]*"))) == 1
    assert weights(resumed) == weights(undisturbed)
    assert resumed["metrics"]["test"] == undisturbed["metrics"]["test"]


def test_sigterm_saves_says_how_to_go_on_and_loses_nothing(
    api: str, pictures: Path, undisturbed: dict[str, Any], tmp_path: Path
):
    command = Command(tmp_path, environment(tmp_path / "killed", PREFECT_API_URL=api))
    settings = ["--dataset.source", pictures, *LONG, "--train.checkpoint_every", "100000", "--name", "terminated"]
    process = command.start("run", *settings)
    said = ended(process, signal.SIGTERM, once=lambda: epochs_done(tmp_path) >= 3)
    (folder,) = (tmp_path / "killed/trainserve/runs").glob("[0-9]*")
    assert process.returncode == 143
    assert said.strip().splitlines()[-1].endswith(f"so does `trainserve run --resume {folder.name}`")
    assert "Traceback" not in said
    assert list((folder / "checkpoint").glob("*.pt"))
    (run,) = Server(api).post("flow_runs/filter", flow_runs={"name": {"any_": ["terminated"]}})
    assert (run["state"]["type"], run["state"]["name"]) == ("CANCELLED", "Cancelled")
    assert f"`trainserve run --resume {folder.name}` goes on" in run["state"]["message"]

    refused = command("run", "--resume", "latest", "--train.epochs", "50")
    assert refused.returncode == 2
    assert "train.epochs 40, now 50" in refused.stderr.strip().splitlines()[-1]
    done = command("run", "--resume", "latest", "--json")
    assert f"going on with run {folder.name} from step " in done.stderr
    resumed = json.loads(done.stdout)
    assert resumed["run_id"] == folder.name
    assert weights(resumed) == weights(undisturbed)  # whose checkpoints came at other times


def test_cross_validation_goes_on_with_the_first_fold_that_had_not_ended(api: str, pictures: Path, tmp_path: Path):
    """Killed in one fold, terminated in another."""
    command = Command(tmp_path, environment(tmp_path / "killed", PREFECT_API_URL=api))
    short = [*SMALL, "--train.epochs", "20", "--train.patience", "19", "--train.batch_size", "4"]
    asked = ["run", "--dataset.source", pictures, *short, "--crossval.folds", "5", "--json"]

    process = command.start(*asked)
    ended(process, signal.SIGKILL, once=lambda: folds_done(tmp_path) >= 1)
    assert process.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "killed/trainserve/runs").glob("[0-9]*")
    killed = folds_done(tmp_path)
    process = command.start(*asked)
    said = ended(process, signal.SIGTERM, once=lambda: folds_done(tmp_path) > killed)
    before = [json.loads(file.read_text()) for file in sorted((folder / "folds").glob("*.json"))]
    done = len(before)
    assert 1 <= killed < done < 5  # it was in the middle
    assert process.returncode == 143
    assert f"going on with run {folder.name} after {killed} of 5 folds" in said
    assert f"stopped in fold {done + 1} of 5, after step " in said
    assert said.strip().splitlines()[-1].endswith(f"so does `trainserve run --resume {folder.name}`")
    assert "Traceback" not in said
    assert epochs_done(tmp_path) == 0

    again = command("run", "--resume", "latest", "--json")
    assert f"going on with run {folder.name} after {done} of 5 folds" in again.stderr
    resumed = json.loads(again.stdout)
    assert resumed["run_id"] == folder.name
    folds = resumed["metrics"]["crossval"]["folds"]
    assert [fold["fold"] for fold in folds] == [0, 1, 2, 3, 4]
    assert folds[:done] == before


def test_two_processes_train_for_the_command_and_stop_with_it(api: str, pictures: Path, tmp_path: Path):
    hidden = {"PREFECT_API_URL": api, "CUDA_VISIBLE_DEVICES": ""}
    command = Command(tmp_path, environment(tmp_path / "killed", **hidden))
    process = command.start("run", "--dataset.source", pictures, *LONG, "--train.devices", "2")
    said = ended(process, signal.SIGINT, once=lambda: epochs_done(tmp_path) >= 2)
    assert process.returncode == 130
    assert "stopped after step" in said
    assert "epoch  1/40" in said
    resumed = json.loads(command("run", "--resume", "latest", "--json").stdout)
    folder = Path(resumed["run_folder"])
    assert json.loads((folder / "fit.json").read_text())["device"].startswith("2 x cpu")
    assert [json.loads(line)["epoch"] for line in (folder / "history.jsonl").read_text().splitlines()] == list(
        range(40)
    )


def epochs_done(home: Path) -> int:
    files = list(home.glob("killed/trainserve/runs/*/history.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def folds_done(home: Path) -> int:
    return len(list(home.glob("killed/trainserve/runs/*/folds/*.json")))


def weights(outcome: dict[str, str]) -> bytes:
    return (Path(outcome["run_folder"]) / "weights.safetensors").read_bytes()
