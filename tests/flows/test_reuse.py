"""Whole chains, one after the other in one home: what each makes, and what it takes over."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deployed import Server
from lamps import ROOT, TINY, Command, environment, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(900)]

MADE_ONCE = ["cross-validate", "train", "evaluate", "export"]

# Runs of one process, since importing torch and Prefect takes longer than all of them. Each line of the input:
# settings, stages to refresh, changes of the environment.
RUNS = """
import json, os, sys
from flows.pipeline import pipeline
from flows.settings.overrides import experiment
from flows.console import shown
for line in sys.stdin:
    settings, refresh, env = json.loads(line)
    os.environ.update(env)
    with shown(None):
        try:
            said = pipeline(experiment(settings), refresh=tuple(refresh)).model_dump_json()
        except Exception as error:
            said = json.dumps({"error": str(error)})
    print(said, file=sys.__stderr__, flush=True)
"""


@dataclass
class Runs:
    """`runs(settings, refresh=...)` is the outcome of one more."""

    process: subprocess.Popen[str]
    settings: list[str]
    api: str

    def __call__(self, *settings: str, folds: int = 2, refresh: tuple[str, ...] = (), **env: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        asked = [*self.settings, *settings, "--crossval.folds", str(folds)]
        self.process.stdin.write(json.dumps([asked, refresh, env]) + "\n")
        self.process.stdin.flush()
        while not (line := self.process.stderr.readline()).startswith("{"):
            assert line, "the process has ended"
        outcome: dict[str, Any] = json.loads(line)
        return outcome

    def states(self, outcome: dict[str, Any]) -> dict[str, tuple[str, str]]:
        """Task -> (name of its state, message), as the server tells them."""
        run = {"id": {"any_": [outcome["flow_run_url"].rpartition("/")[2]]}}

        def completed() -> list[dict[str, Any]]:
            """The server makes them from events, one by one."""
            tasks = Server(self.api).post("task_runs/filter", flow_runs=run)
            return [task for task in tasks if task["state_type"] == "COMPLETED"]

        wait_for(lambda: len(completed()) == 6, timeout_s=120)
        return {task["name"]: (task["state"]["name"], task["state"]["message"] or "") for task in completed()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reuse")


@pytest.fixture(scope="module")
def first(prefect_server: str, pictures: Path, home: Path) -> tuple[dict[str, Any], Command, list[str]]:
    """Two commands at the same moment in an empty home; the outcome of the first, in service."""
    command = Command(home, environment(home, PREFECT_API_URL=f"{prefect_server}/api"))
    settings = ["--dataset.source", str(pictures), *TINY]
    both = [command.start("run", *settings, "--crossval.folds", "2", "--json") for _ in range(2)]
    outcomes = []
    for process in both:
        out, said = process.communicate(timeout=400)
        assert process.returncode == 0, said
        outcomes.append(json.loads(out))
    assert outcomes[0]["run_id"] != outcomes[1]["run_id"]
    assert weights(outcomes[0]).read_bytes() == weights(outcomes[1]).read_bytes()
    command("models", "promote", outcomes[0]["model"], "--because", "a test")
    shutil.rmtree(outcomes[1]["run_folder"])  # as they are cleared away in time; one source is left
    return outcomes[0], command, settings


@pytest.fixture(scope="module")
def runs(first: tuple[dict[str, Any], Command, list[str]], prefect_server: str) -> Iterator[Runs]:
    _, command, settings = first
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS],
        cwd=ROOT,
        env=command.env,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    yield Runs(process, settings, f"{prefect_server}/api")
    assert process.stdin is not None
    process.stdin.close()
    process.wait(180)


def without_seconds(metrics: dict[str, Any]) -> dict[str, Any]:
    """Of two commands at the same moment one takes over the other's figures, and then has folds of its own beside."""
    folds = [{**fold, "seconds": None} for fold in metrics["crossval"]["folds"]]
    return {**metrics, "crossval": {**metrics["crossval"], "folds": folds}}


def test_the_same_command_again_takes_seconds_and_makes_no_new_version(first):
    made, command, settings = first
    before = command("models", "list", "--json").stdout
    done = command("run", *settings, "--crossval.folds", "2", "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert list(again["reused"]) == MADE_ONCE
    took_s = sum(took for stage, took in again["seconds"].items() if stage != "start")
    assert took_s < 100  # 4 on a quiet machine, and the server may stand still for 60
    assert again["run_id"] != made["run_id"]
    assert (again["model"], again["metrics"]) == (made["model"], made["metrics"])
    assert (again["verdict"]["relation"], again["verdict"]["champion"]) == ("same", made["model"])
    assert command("models", "list", "--json").stdout == before
    assert weights(again).samefile(weights(made)) or weights(again).read_bytes() == weights(made).read_bytes()
    assert "it is in service" in (Path(again["run_folder"]) / "report.html").read_text()
    assert f"taken over from run {again['reused']['train']}" in done.stderr


def test_the_server_shows_what_was_taken_over_and_from_which_run(runs: Runs):
    outcome = runs()
    states = runs.states(outcome)
    assert {task for task, (name, _) in states.items() if name == "Cached"} == {"prepare", *MADE_ONCE}
    assert states["train"][1] == f"the weights of run {outcome['reused']['train']}"
    assert states["release"][0] == "Completed"


def test_other_rules_of_release_are_no_reason_to_make_anything(runs: Runs):
    assert list(runs("--release.margin", "0.1")["reused"]) == MADE_ONCE


def test_other_folds_leave_the_weights_and_are_a_version_of_their_own(runs: Runs, first):
    outcome = runs(folds=3)
    assert list(outcome["reused"]) == ["train"]
    assert len(outcome["metrics"]["crossval"]["folds"]) == 3
    assert outcome["model"] == f"lamps@{outcome['run_id']}"
    assert outcome["metrics"]["test"] == first[0]["metrics"]["test"]


def test_other_settings_of_training_are_trained(runs: Runs):
    assert runs("--train.seed", "5")["reused"] == {}


def test_a_stage_that_is_refreshed_is_made_anew_and_comes_out_the_same(runs: Runs, first):
    outcome = runs(refresh=("evaluate",))
    assert list(outcome["reused"]) == ["cross-validate", "train"]
    assert outcome["model"] == f"lamps@{outcome['run_id']}"
    assert without_seconds(outcome["metrics"]) == without_seconds(first[0]["metrics"])
    everything = runs(refresh=("all",))
    assert everything["reused"] == {}
    assert weights(everything).read_bytes() == weights(first[0]).read_bytes()
    assert runs.states(everything)["prepare"][0] == "Completed"


def test_a_run_that_failed_and_is_tried_again_repeats_no_stage_that_had_ended(runs: Runs, home: Path):
    (home / "no-store").touch()
    store = os.fspath(home / "bentoml")
    failed = runs("--train.seed", "6", BENTOML_HOME=str(home / "no-store"))
    assert "error" in failed
    again = runs("--train.seed", "6", BENTOML_HOME=store)
    assert again["reused"] == dict.fromkeys(MADE_ONCE, again["run_id"])
    assert runs.states(again)["export"] == ("Cached", f"the bundle of run {again['run_id']}")


def weights(outcome: dict[str, Any]) -> Path:
    return Path(outcome["run_folder"]) / "weights.safetensors"
