"""Folds beside each other on every engine, with a worker killed in the middle: complete, and as the plain loop's."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from lamps import ROOT, SMALL, Command, environment, wait_for
from servers import PrefectServer

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]

FOLDS = 3
SETTINGS = [*SMALL, "--train.epochs", "40", "--train.patience", "39", "--train.batch_size", "4"]
FLOW = """
import json, sys
from flows.cross_validation import cross_validation
from flows.engines import RunnerConfig
from flows.settings.overrides import experiment
result = cross_validation(experiment(json.loads(sys.argv[1])), RunnerConfig.model_validate_json(sys.argv[2]))
print(result.model_dump_json())
"""


class Folding:
    """A cross-validation under way, in a home of its own, by the flow that is deployed."""

    def __init__(self, home: Path, server: PrefectServer, pictures: Path, **runner: object) -> None:
        home.mkdir()
        self.home = home
        settings = ["--dataset.source", str(pictures), *SETTINGS, "--crossval.folds", str(FOLDS)]
        env = environment(home, PREFECT_API_URL=server.api, PREFECT_LOGGING_LEVEL="WARNING")
        self.log = (home / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", FLOW, json.dumps(settings), json.dumps(runner)],
            cwd=home,
            env=env,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def result(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, (self.home / "log").read_text()[-4000:]
        result: dict[str, Any] = json.loads(out.splitlines()[-1])
        return result


def folds_in(home: Path) -> dict[int, int]:
    """Processes that train a fold there, and their parents."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"models.training.fold" in words and any(str(home).encode() in word for word in words):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def ended_in(home: Path) -> list[Path]:
    return sorted(home.glob("trainserve/runs/*/folds/*.json"))


def learning_in(home: Path) -> bool:
    """A fold is in the middle."""
    return any(home.glob("trainserve/runs/*/folds/[0-9]*/progress.json"))


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "folds": [{**fold, "seconds": 0.0} for fold in result["folds"]]}


@pytest.fixture(scope="module")
def plain(quick_server: PrefectServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the plain loop gives."""
    home = tmp_path_factory.mktemp("plain") / "home"
    return timeless(Folding(home, quick_server, pictures, kind="plain").result())


def kill_in_the_middle(folding: Folding, victim: Literal["fold", "worker"]) -> dict[str, int]:
    """After one fold has ended and while another one trains; gives the files of the folds that had ended."""

    def ready() -> bool:
        assert folding.process.poll() is None, (folding.home / "log").read_text()[-4000:]
        return bool(ended_in(folding.home)) and learning_in(folding.home) and bool(folds_in(folding.home))

    wait_for(ready, timeout_s=120, every_s=0.02)
    before = {file.name: file.stat().st_mtime_ns for file in ended_in(folding.home)}
    child, parent = next(iter(folds_in(folding.home).items()))
    os.kill(child if victim == "fold" else parent, signal.SIGKILL)
    assert len(before) < FOLDS  # it was in the middle
    return before


def check(folding: Folding, plain: dict[str, Any], before: dict[str, int]) -> None:
    """Complete, equal, nothing trained twice, nobody left."""
    assert timeless(folding.result()) == plain
    after = {file.name: file.stat().st_mtime_ns for file in ended_in(folding.home)}
    assert len(after) == FOLDS
    assert {name: after[name] for name in before} == before
    wait_for(lambda: not folds_in(folding.home), timeout_s=15)
    assert not list(folding.home.glob("trainserve/runs/*/folds/[0-9]"))
    assert not list(folding.home.glob("trainserve/runs/*/folds/orders"))


def test_on_threads_a_fold_whose_process_is_killed_is_trained_again(
    quick_server: PrefectServer, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    folding = Folding(tmp_path / "home", quick_server, pictures, kind="threads", workers=2)
    check(folding, plain, kill_in_the_middle(folding, "fold"))


def test_a_pool_of_processes_that_loses_one_is_made_anew(
    quick_server: PrefectServer, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    folding = Folding(tmp_path / "home", quick_server, pictures, kind="processes", workers=2)
    check(folding, plain, kill_in_the_middle(folding, "worker"))


def test_ray_gives_the_fold_of_a_killed_worker_to_another(
    quick_server: PrefectServer, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    pytest.importorskip("prefect_ray")
    folding = Folding(tmp_path / "home", quick_server, pictures, kind="ray", workers=2)
    check(folding, plain, kill_in_the_middle(folding, "worker"))


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own; its address."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = ["--no-dashboard", "--scheduler-file", str(file)]
    env = environment(folder)
    with ExitStack() as stack:

        def start(*words: str) -> None:
            with (folder / f"{words[0]}.log").open("ab") as log:
                process = subprocess.Popen([*dask, *words, *quiet], cwd=ROOT, env=env, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)

        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_for(file.exists, timeout_s=60)
        for _ in range(2):
            start("worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
        yield json.loads(file.read_text())["address"]


def test_a_dask_cluster_that_loses_a_worker_gives_what_the_plain_loop_gives(
    quick_server: PrefectServer, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    """By the command, on a cluster that was there before, whose workers were started in another folder."""
    home = tmp_path / "home"
    home.mkdir()
    command = Command(home, environment(home, PREFECT_API_URL=quick_server.api))
    settings = ["--dataset.source", os.path.relpath(pictures, home), *SETTINGS, "--crossval.folds", str(FOLDS)]
    with dask_cluster(tmp_path) as address:
        process = command.start("run", *settings, "--engine", "dask", "--address", address, "--json")
        try:
            wait_for(
                lambda: process.poll() is not None or (bool(ended_in(home)) and learning_in(home)),
                timeout_s=120,
                every_s=0.02,
            )
            ended = {file.name: file.stat().st_mtime_ns for file in ended_in(home)}
            worker = next(iter(folds_in(home).values()))
            assert b"worker" in Path(f"/proc/{worker}/cmdline").read_bytes()
            os.kill(worker, signal.SIGKILL)
            out, said = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 0, said
    assert len(ended) < FOLDS  # it was in the middle
    outcome = json.loads(out)
    assert timeless(outcome["metrics"]["crossval"]) == plain
    after = {file.name: file.stat().st_mtime_ns for file in ended_in(home)}
    assert {name: after[name] for name in ended} == ended
    assert not folds_in(home)


def test_a_run_that_is_stopped_stops_its_folds_wherever_they_are_and_goes_on_with_them(
    quick_server: PrefectServer, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    home = tmp_path / "home"
    home.mkdir()
    command = Command(home, environment(home, PREFECT_API_URL=quick_server.api))
    settings = ["--dataset.source", pictures, *SETTINGS, "--crossval.folds", str(FOLDS)]
    process = command.start("run", *settings, "--engine", "processes", "--workers", "2")
    wait_for(lambda: process.poll() is not None or learning_in(home), timeout_s=120, every_s=0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "of 3 folds done; they are kept" in said
    assert "Traceback" not in said
    assert not folds_in(home)
    assert list(home.glob("trainserve/runs/*/folds/*/checkpoint/*.pt"))
    resumed = json.loads(command("run", "--resume", "latest", "--json").stdout)
    assert timeless(resumed["metrics"]["crossval"]) == plain


def test_a_flow_that_is_killed_leaves_no_process_of_its_pool(
    quick_server: PrefectServer, pictures: Path, tmp_path: Path
):
    folding = Folding(tmp_path / "home", quick_server, pictures, kind="processes", workers=2)
    wait_for(lambda: bool(folds_in(folding.home)), timeout_s=120)
    pool = set(folds_in(folding.home).values())
    folding.process.kill()
    folding.process.wait()
    wait_for(lambda: not folds_in(folding.home), timeout_s=10)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pool), timeout_s=10)
