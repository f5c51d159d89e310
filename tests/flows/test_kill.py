"""`kill -9`, SIGTERM or a cancel in the middle of training, then going on: as if nothing had happened."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from lamps import SMALL, Command, environment, wait_for
from servers import begun

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1200)]

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


def test_sigterm_saves_says_how_to_go_on_and_loses_nothing(prefect_server: str, pictures: Path, tmp_path: Path):
    api = {"PREFECT_API_URL": f"{prefect_server}/api"}
    command = Command(tmp_path, environment(tmp_path / "killed", **api))
    settings = ["--dataset.source", pictures, *LONG, "--train.checkpoint_every", "100000", "--name", "terminated"]
    process = command.start("run", *settings)
    wait_for(lambda: epochs_done(tmp_path) >= 3 or process.poll() is not None, timeout_s=120, every_s=0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    (folder,) = (tmp_path / "killed/trainserve/runs").glob("[0-9]*")
    assert process.returncode == 143
    assert said.strip().splitlines()[-1].endswith(f"so does `trainserve run --resume {folder.name}`")
    assert "Traceback" not in said
    assert list((folder / "checkpoint").glob("*.pt"))
    state = latest_run(prefect_server)["state"]
    assert (state["type"], state["name"]) == ("CANCELLED", "Cancelled")
    assert f"`trainserve run --resume {folder.name}` goes on" in state["message"]

    refused = command("run", "--resume", "latest", "--train.epochs", "50")
    assert refused.returncode == 2
    assert "train.epochs 40, now 50" in refused.stderr.strip().splitlines()[-1]
    done = command("run", "--resume", "latest", "--json")
    assert f"going on with run {folder.name} from step " in done.stderr
    resumed = json.loads(done.stdout)
    assert resumed["run_id"] == folder.name
    undisturbed = json.loads(
        Command(tmp_path, environment(tmp_path / "other", **api))("run", *settings, "--json").stdout
    )
    assert weights(resumed) == weights(undisturbed)


def test_cross_validation_goes_on_with_the_first_fold_that_had_not_ended(
    prefect_server: str, pictures: Path, tmp_path: Path
):
    """Killed in one fold, terminated in another."""
    api = {"PREFECT_API_URL": f"{prefect_server}/api"}
    command = Command(tmp_path, environment(tmp_path / "killed", **api))
    short = [*SMALL, "--train.epochs", "10", "--train.patience", "9", "--train.batch_size", "4"]
    asked = ["run", "--dataset.source", pictures, *short, "--crossval.folds", "5", "--json"]

    def ended(number: signal.Signals, *, after: int) -> tuple[int, str]:
        process = command.start(*asked)
        wait_for(lambda: folds_done(tmp_path) >= after or process.poll() is not None, timeout_s=240, every_s=0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

    assert ended(signal.SIGKILL, after=1)[0] == -signal.SIGKILL
    (folder,) = (tmp_path / "killed/trainserve/runs").glob("[0-9]*")
    killed = folds_done(tmp_path)
    status, said = ended(signal.SIGTERM, after=killed + 1)
    before = [json.loads(file.read_text()) for file in sorted((folder / "folds").glob("*.json"))]
    done = len(before)
    assert 1 <= killed < done < 5  # it was in the middle
    assert status == 143
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


def test_two_processes_train_for_the_command_and_stop_with_it(prefect_server: str, pictures: Path, tmp_path: Path):
    hidden = {"PREFECT_API_URL": f"{prefect_server}/api", "CUDA_VISIBLE_DEVICES": ""}
    command = Command(tmp_path, environment(tmp_path / "killed", **hidden))
    process = command.start("run", "--dataset.source", pictures, *LONG, "--train.devices", "2")
    wait_for(lambda: epochs_done(tmp_path) >= 2 or process.poll() is not None, timeout_s=240, every_s=0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped after step" in said
    assert "epoch  1/40" in said
    resumed = json.loads(command("run", "--resume", "latest", "--json").stdout)
    folder = Path(resumed["run_folder"])
    assert json.loads((folder / "fit.json").read_text())["device"].startswith("2 x cpu")
    assert [json.loads(line)["epoch"] for line in (folder / "history.jsonl").read_text().splitlines()] == list(
        range(40)
    )


def test_a_flow_run_that_is_cancelled_saves_and_ends_as_cancelled(prefect_server: str, pictures: Path, tmp_path: Path):
    command = Command(tmp_path, environment(tmp_path / "killed", PREFECT_API_URL=f"{prefect_server}/api"))
    forever = ["--train.batch_size", "4", "--train.epochs", "5000", "--train.patience", "4999"]
    serving = command.start("deploy", "--dataset.source", pictures, *SMALL, *forever)
    try:
        api = f"{prefect_server}/api"
        chosen = {"deployments": {"name": {"any_": ["train"]}}}
        wait_for(lambda: bool(httpx.post(f"{api}/deployments/filter", json=chosen).json()), timeout_s=120)
        deployment = httpx.post(f"{api}/deployments/filter", json=chosen).json()[0]["id"]
        run = begun(f"{api}/deployments/{deployment}/create_flow_run")
        wait_for(lambda: epochs_done(tmp_path) >= 3, timeout_s=180)
        httpx.post(f"{api}/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()
        wait_for(lambda: state_of(prefect_server, run) == "CANCELLED", timeout_s=90)
        (folder,) = (tmp_path / "killed/trainserve/runs").glob("[0-9]*")
        assert "stopped after step" in (folder / "run.log").read_text()
        assert list((folder / "checkpoint").glob("*.pt"))
    finally:
        serving.send_signal(signal.SIGINT)
        _, said = serving.communicate(timeout=60)
    assert f"`trainserve run --resume {folder.name}` goes on" in said


def latest_run(server: str) -> dict[str, Any]:
    chosen = {"sort": "START_TIME_DESC", "limit": 1}
    run: dict[str, Any] = httpx.post(f"{server}/api/flow_runs/filter", json=chosen).json()[0]
    return run


def state_of(server: str, run: str) -> str:
    return str(httpx.get(f"{server}/api/flow_runs/{run}").json()["state_type"])


def epochs_done(home: Path) -> int:
    files = list(home.glob("killed/trainserve/runs/*/history.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def folds_done(home: Path) -> int:
    return len(list(home.glob("killed/trainserve/runs/*/folds/*.json")))


def weights(outcome: dict[str, str]) -> bytes:
    return (Path(outcome["run_folder"]) / "weights.safetensors").read_bytes()
