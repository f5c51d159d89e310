"""Settings tried against a real server: given up, killed, gone on with, shown; by the command and beside each other."""

import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from lamps import SMALL, Command, environment, wait_for
from servers import PrefectServer

pytest.importorskip("optuna")

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = [*SMALL, "--train.batch_size", "4", "--train.epochs", "12", "--train.patience", "11"]
SEARCH = ["--search.lr", "1e-4..1e-1:log", "--search.optimizer.kind", "adamw,sgd"]


def sweeping(home: Path, server: PrefectServer, pictures: Path) -> tuple[Command, list[str]]:
    home.mkdir(exist_ok=True)
    command = Command(home, environment(home, PREFECT_API_URL=server.api))
    return command, ["sweep", "--dataset.source", str(pictures), *SETTINGS, *SEARCH]


def trials_in(home: Path) -> list[Path]:
    return sorted(home.glob("trainserve/trials/*"))


def ended_in(home: Path) -> list[Path]:
    return sorted(home.glob("trainserve/trials/*/fit.json"))


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "name"}


def test_a_killed_sweep_goes_on_and_finds_what_an_undisturbed_one_does(
    quick_server: PrefectServer, pictures: Path, tmp_path: Path
):
    command, asked = sweeping(tmp_path / "killed", quick_server, pictures)
    asked += ["--trials", "6", "--json"]
    process = command.start(*asked)
    wait_for(
        lambda: (
            process.poll() is not None
            or (len(ended_in(command.cwd)) >= 2 and any((trials_in(command.cwd)[-1] / "checkpoint").glob("*.pt")))
        ),
        timeout_s=180,
        every_s=0.02,
    )
    process.kill()
    process.communicate()
    before = {file: file.stat().st_mtime_ns for file in ended_in(command.cwd)}
    assert 2 <= len(before) < 6  # it was in the middle

    done = command(*asked)
    assert done.returncode == 0, done.stderr
    resumed = json.loads(done.stdout)
    assert "going on with sweep" in done.stderr
    assert {file: file.stat().st_mtime_ns for file in before} == before
    other, _ = sweeping(tmp_path / "other", quick_server, pictures)
    undisturbed = json.loads(other(*asked).stdout)
    assert timeless(resumed) == timeless(undisturbed)
    assert len(resumed["trials"]) == 6
    assert sum(trial["state"] == "complete" for trial in resumed["trials"]) >= 4
    assert [path.parent.name for path in command.cwd.glob("trainserve/trials/*/weights.safetensors")] == [
        f"{resumed['name']}-{resumed['best']['number']:03}"
    ]

    words = shlex.split(resumed["command"])
    assert words[:2] == ["trainserve", "run"]
    trained = json.loads(command(*words[1:], "--json").stdout)
    assert trained["reused"]["train"] == f"{resumed['name']}-{resumed['best']['number']:03}"
    best = command.cwd / "trainserve/trials" / f"{resumed['name']}-{resumed['best']['number']:03}"
    assert (Path(trained["run_folder"]) / "history.jsonl").read_text().count("\n") == 12
    assert (Path(trained["run_folder"]) / "weights.safetensors").read_bytes() == (
        best / "weights.safetensors"
    ).read_bytes()


def test_trials_beside_each_other_are_shown_in_the_ui_and_more_of_them_go_on(
    quick_server: PrefectServer, pictures: Path, tmp_path: Path
):
    command, asked = sweeping(tmp_path / "home", quick_server, pictures)
    asked += ["--engine", "processes", "--workers", "2"]
    first = command(*asked, "--trials", "2")
    assert first.returncode == 0, first.stderr
    assert "train with the best settings: trainserve run --dataset.source" in first.stdout
    process = command.start(*asked, "--trials", "4", "--json")
    wait_for(lambda: process.poll() is not None or len(trials_in(command.cwd)) > 2, timeout_s=120, every_s=0.05)
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "after 2 of 4 trials" in said
    result = json.loads(out)
    assert [trial["number"] for trial in result["trials"]] == [1, 2, 3, 4]

    runs = httpx.post(f"{quick_server.api}/flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": 1}).json()
    assert "trainserve" in runs[0]["tags"]  # by which it is marked if it dies, and deleted when it is old
    chosen = {"flow_runs": {"id": {"any_": [runs[0]["id"]]}}}
    artifacts = httpx.post(f"{quick_server.api}/artifacts/filter", json=chosen).json()
    shown = {artifact["key"]: artifact for artifact in artifacts if artifact["key"]}
    assert {"sweep-progress", "sweep-trials", "sweep-parallel", "sweep-importance"} <= set(shown)
    assert "data:image/png;base64," in shown["sweep-parallel"]["data"]
    assert "data:image/png;base64," in shown["sweep-importance"]["data"]
    assert len(json.loads(shown["sweep-trials"]["data"])) == 4
    assert result["command"] in shown["sweep-trials"]["description"]
    tasks = httpx.post(f"{quick_server.api}/task_runs/filter", json=chosen).json()
    assert {"trial 3", "trial 4"} <= {one["name"] for one in tasks}
    assert all(one["state_type"] == "COMPLETED" for one in tasks)


def test_a_stopped_sweep_leaves_no_trial_behind(quick_server: PrefectServer, pictures: Path, tmp_path: Path):
    command, asked = sweeping(tmp_path / "home", quick_server, pictures)
    process = command.start(*asked, "--engine", "threads", "--workers", "2")
    wait_for(
        lambda: process.poll() is not None or bool(list(command.cwd.glob("trainserve/trials/*/history.jsonl"))),
        timeout_s=120,
    )
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1] == "trainserve: interrupted; the same command goes on where it stopped"
    assert "Traceback" not in said
    assert not left(command.cwd)
    run = httpx.post(f"{quick_server.api}/flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": 1}).json()[0]
    assert (run["state"]["type"], run["state"]["name"]) == ("CANCELLED", "Cancelled")
    assert "the same sweep goes on" in run["state"]["message"]


def left(home: Path) -> list[str]:
    """Processes that train something there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "models.training" in words and os.fspath(home) in words:
            found.append(words)
    return found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--search.lr", "fast"], "leaves nothing to choose"),
        ([], "nothing is searched"),
        (["--search.lr", "1e-3..1e-1", "--trials", "0"], "--trials is 0"),
        (["--search.lr", "1e-3..1e-1", "--trials", "10001"], "at most 10,000"),
        (["--search.lr", "1e-3..1e-1", "--engine", "spark"], "--engine 'spark' is not known"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_starts(words: list[str], says: str, command: Command):
    done = command("sweep", "digits", *words)
    assert done.returncode == 2
    assert says in done.stderr.strip().splitlines()[-1]
    assert not list(command.cwd.glob("**/prefect-server.log"))
