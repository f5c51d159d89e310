"""Settings tried against a real server: given up, killed, gone on with, shown; by the command and beside each other."""

import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from deployed import Server
from lamps import SMALL, Command, environment, wait_for

from data.errors import InputError
from flows.cli.sweeping import sweep
from flows.engines import RunnerConfig

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1200)]

SETTINGS = [*SMALL, "--train.batch_size", "4", "--train.epochs", "12", "--train.patience", "11"]
SEARCH = ["--search.lr", "1e-4..1e-1:log", "--search.optimizer.kind", "adamw,sgd"]


def sweeping(home: Path, server: str, pictures: Path) -> tuple[Command, list[str]]:
    home.mkdir(exist_ok=True)
    command = Command(home, environment(home, PREFECT_API_URL=f"{server}/api"))
    return command, ["sweep", "--dataset.source", str(pictures), *SETTINGS, *SEARCH]


def trials_in(home: Path) -> list[Path]:
    return sorted(home.glob("trainserve/trials/*"))


def ended_in(home: Path) -> list[Path]:
    return sorted(home.glob("trainserve/trials/*/fit.json"))


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "name"}


def latest_run(server: str) -> dict[str, Any]:
    sweeps = {"name": {"any_": ["sweep"]}}
    found = Server(f"{server}/api").post("flow_runs/filter", flows=sweeps, sort="START_TIME_DESC", limit=1)
    return dict(found[0])


def test_a_killed_sweep_goes_on_and_finds_what_an_undisturbed_one_does(
    prefect_server: str, pictures: Path, tmp_path: Path
):
    command, asked = sweeping(tmp_path / "killed", prefect_server, pictures)
    process = command.start(*asked, "--trials", "5", "--json")
    wait_for(
        lambda: (
            process.poll() is not None
            or (len(ended_in(command.cwd)) >= 2 and any((trials_in(command.cwd)[-1] / "checkpoint").glob("*.pt")))
        ),
        timeout_s=300,
        every_s=0.02,
    )
    process.kill()
    process.communicate()
    before = {file: file.stat().st_mtime_ns for file in ended_in(command.cwd)}
    assert 2 <= len(before) < 5  # it was in the middle

    asked += ["--trials", "6", "--json"]
    done = command(*asked)
    assert done.returncode == 0, done.stderr
    resumed = json.loads(done.stdout)
    assert f"going on with sweep {resumed['name']} after " in done.stderr
    assert " of 6 trials" in done.stderr
    assert {file: file.stat().st_mtime_ns for file in before} == before
    other, _ = sweeping(tmp_path / "other", prefect_server, pictures)
    undisturbed = json.loads(other(*asked).stdout)
    assert timeless(resumed) == timeless(undisturbed)
    assert [trial["number"] for trial in resumed["trials"]] == [1, 2, 3, 4, 5, 6]
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


def test_trials_beside_each_other_are_shown_in_the_ui(prefect_server: str, pictures: Path, tmp_path: Path):
    command, asked = sweeping(tmp_path / "home", prefect_server, pictures)
    done = command(*asked, "--engine", "processes", "--workers", "2", "--trials", "3")
    assert done.returncode == 0, done.stderr
    (best,) = [line for line in done.stdout.splitlines() if line.startswith("train with the best settings: ")]
    words = best.removeprefix("train with the best settings: ")
    assert words.startswith("trainserve run --dataset.source")

    run, server = latest_run(prefect_server), Server(f"{prefect_server}/api")
    assert "trainserve" in run["tags"]  # by which it is marked if it dies, and deleted when it is old
    of_it = {"id": {"any_": [run["id"]]}}
    shown = {one["key"]: one for one in server.post("artifacts/filter", flow_runs=of_it) if one["key"]}
    assert {"sweep-progress", "sweep-trials", "sweep-parallel", "sweep-importance"} <= set(shown)
    assert "data:image/png;base64," in shown["sweep-parallel"]["data"]
    assert "data:image/png;base64," in shown["sweep-importance"]["data"]
    assert len(json.loads(shown["sweep-trials"]["data"])) == 3
    assert words in shown["sweep-trials"]["description"]

    def tasks() -> dict[str, str]:
        """The server makes them from events, one by one."""
        return {one["name"]: one["state_type"] for one in server.post("task_runs/filter", flow_runs=of_it)}

    expected = {"prepare", "trials", "trial 1", "trial 2", "trial 3"}
    wait_for(lambda: tasks() == dict.fromkeys(expected, "COMPLETED"), timeout_s=120)


def test_a_stopped_sweep_leaves_no_trial_behind(prefect_server: str, pictures: Path, tmp_path: Path):
    command, asked = sweeping(tmp_path / "home", prefect_server, pictures)
    process = command.start(*asked, "--engine", "threads", "--workers", "2")
    wait_for(
        lambda: process.poll() is not None or bool(list(command.cwd.glob("trainserve/trials/*/history.jsonl"))),
        timeout_s=300,
    )
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1] == "trainserve: interrupted; the same command goes on where it stopped"
    assert "Traceback" not in said
    assert not left(command.cwd)
    run = latest_run(prefect_server)
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
    ("words", "trials", "says"),
    [
        (["--search.lr", "fast"], 9, "leaves nothing to choose"),
        ([], 9, "nothing is searched"),
        (["--search.lr", "1e-3..1e-1"], 0, "--trials is 0"),
        (["--search.lr", "1e-3..1e-1"], 10_001, "at most 10,000"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(words: list[str], trials: int, says: str):
    with pytest.raises(InputError) as refused:
        sweep(["digits", *words], None, trials=trials, prune=True, runner=RunnerConfig(), as_json=False)
    assert says in str(refused.value)


def test_one_that_is_refused_ends_in_a_sentence_and_nothing_was_started(command: Command):
    done = command("sweep", "digits", "--search.lr", "1e-3..1e-1", "--engine", "spark")
    assert done.returncode == 2
    assert "--engine 'spark' is not known" in done.stderr.strip().splitlines()[-1]
    assert not list(command.cwd.glob("**/prefect-server.log"))
