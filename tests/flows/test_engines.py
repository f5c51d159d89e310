"""Folds beside each other on every engine, with a worker killed in the middle: complete, and as the plain loop's."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from lamps import PATIENCE_S, ROOT, SMALL, Command, environment, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1800)]

FOLDS = 3
NEVER_ENDING = 10_000
FLOW = """
import json, sys
from flows.cross_validation import cross_validation
from flows.engines import RunnerConfig
from flows.settings.overrides import experiment
result = cross_validation(experiment(json.loads(sys.argv[1])), RunnerConfig.model_validate_json(sys.argv[2]))
print(result.model_dump_json())
"""


def settings(pictures: Path | str, epochs: int = 40) -> list[str]:
    training = ["--train.epochs", str(epochs), "--train.patience", "never", "--train.batch_size", "4"]
    return ["--dataset.source", str(pictures), *SMALL, *training, "--crossval.folds", str(FOLDS)]


class Folding:
    """A cross-validation under way, in a home of its own, by the flow that is deployed."""

    def __init__(self, home: Path, api: str, asked: list[str], **runner: object) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        env = environment(home, PREFECT_API_URL=api, PREFECT_LOGGING_LEVEL="WARNING")
        self.log = (home / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", FLOW, json.dumps(asked), json.dumps(runner)],
            cwd=home,
            env=env,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def kill_in_the_middle(self, victim: Literal["fold", "worker"]) -> dict[str, int]:
        return kill_in_the_middle(self.home, self.process, victim, said=self.said)

    def said(self) -> str:
        return (self.home / "log").read_text()[-4000:]

    def result(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=2 * PATIENCE_S)
        assert self.process.returncode == 0, self.said()
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
def api(prefect_server: str) -> str:
    return f"{prefect_server}/api"


@pytest.fixture(scope="module")
def plain(api: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the plain loop gives."""
    home = tmp_path_factory.mktemp("plain") / "home"
    return timeless(Folding(home, api, settings(pictures), kind="plain").result())


def kill_in_the_middle(
    home: Path,
    process: "subprocess.Popen[Any]",
    victim: Literal["fold", "worker"],
    *,
    named: bytes = b"",
    said: Callable[[], str],
) -> dict[str, int]:
    """After one fold has ended and while another one trains; gives the files of the folds that had ended."""
    before: dict[str, int] = {}

    def killed() -> bool:
        assert process.poll() is None, said()
        training = folds_in(home)
        if not (ended_in(home) and learning_in(home) and training):
            return False
        before.update({file.name: file.stat().st_mtime_ns for file in ended_in(home)})
        child, parent = next(iter(training.items()))
        pid = child if victim == "fold" else parent
        try:
            assert named in Path(f"/proc/{pid}/cmdline").read_bytes()
            os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            return False
        return True

    wait_for(killed, every_s=0.02)
    assert len(before) < FOLDS  # it was in the middle
    return before


def check(folding: Folding, plain: dict[str, Any], before: dict[str, int]) -> None:
    """Complete, equal, nothing trained twice, nobody left."""
    assert timeless(folding.result()) == plain
    after = {file.name: file.stat().st_mtime_ns for file in ended_in(folding.home)}
    assert len(after) == FOLDS
    assert {name: after[name] for name in before} == before
    wait_for(lambda: not folds_in(folding.home))
    assert not list(folding.home.glob("trainserve/runs/*/folds/[0-9]"))
    assert not list(folding.home.glob("trainserve/runs/*/folds/orders"))


def test_on_threads_a_fold_whose_process_is_killed_is_trained_again(
    api: str, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    folding = Folding(tmp_path / "home", api, settings(pictures), kind="threads", workers=2)
    check(folding, plain, folding.kill_in_the_middle("fold"))


def test_a_pool_of_processes_that_loses_one_is_made_anew(
    api: str, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    folding = Folding(tmp_path / "home", api, settings(pictures), kind="processes", workers=2)
    check(folding, plain, folding.kill_in_the_middle("worker"))


KILLED_IN_A_MESSAGE = """
from flows.engines import RunnerConfig, task_runner
with task_runner(RunnerConfig(kind="processes", workers=1), at_once=1) as runner:
    runner._subprocess_message_queue._wlock.acquire()  # what a process leaves that is killed while it sends
print("ended")
"""


def test_a_pool_whose_process_was_killed_in_the_middle_of_a_message_ends(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED_IN_A_MESSAGE],
        env=environment(tmp_path, PREFECT_LOGGING_LEVEL="CRITICAL"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout == "ended\n"


def test_ray_gives_the_fold_of_a_killed_worker_to_another(
    api: str, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    folding = Folding(tmp_path / "home", api, settings(pictures), kind="ray", workers=2)
    check(folding, plain, folding.kill_in_the_middle("worker"))


def address_in(file: Path) -> str:
    """ "" until it has been written, which takes the scheduler more than one step."""
    try:
        return str(json.loads(file.read_text())["address"])
    except (FileNotFoundError, ValueError):
        return ""


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
            stack.callback(process.wait, PATIENCE_S)
            stack.callback(process.terminate)

        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_for(lambda: bool(address_in(file)))
        for _ in range(2):
            start("worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
        yield address_in(file)


def test_a_dask_cluster_that_loses_a_worker_gives_what_the_plain_loop_gives(
    api: str, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    """By the command, on a cluster that was there before, whose workers were started in another folder."""
    home = tmp_path / "home"
    home.mkdir()
    command = Command(home, environment(home, PREFECT_API_URL=api))
    asked = settings(os.path.relpath(pictures, home))
    with dask_cluster(tmp_path) as address:
        process = command.start("run", *asked, "--engine", "dask", "--address", address, "--json")
        try:
            ended = kill_in_the_middle(home, process, "worker", named=b"worker", said=lambda: process.communicate()[1])
            out, said = process.communicate(timeout=2 * PATIENCE_S)
        finally:
            process.kill()
        assert process.returncode == 0, said
    outcome = json.loads(out)
    assert timeless(outcome["metrics"]["crossval"]) == plain
    after = {file.name: file.stat().st_mtime_ns for file in ended_in(home)}
    assert {name: after[name] for name in ended} == ended
    wait_for(lambda: not folds_in(home))


def test_a_run_that_is_stopped_stops_its_folds_wherever_they_are_and_goes_on_with_them(
    api: str, pictures: Path, plain: dict[str, Any], tmp_path: Path
):
    home = tmp_path / "home"
    home.mkdir()
    command = Command(home, environment(home, PREFECT_API_URL=api))
    process = command.start("run", *settings(pictures), "--engine", "processes", "--workers", "2")
    wait_for(lambda: process.poll() is not None or learning_in(home), every_s=0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143, said
    assert "of 3 folds done; they are kept" in said
    assert "Traceback" not in said
    wait_for(lambda: not folds_in(home))
    assert list(home.glob("trainserve/runs/*/folds/*/checkpoint/*.pt"))
    assert timeless(Folding(home, api, settings(pictures), kind="plain").result()) == plain


def test_a_flow_that_is_killed_leaves_no_process_of_its_pool(api: str, pictures: Path, tmp_path: Path):
    folding = Folding(tmp_path / "home", api, settings(pictures, NEVER_ENDING), kind="processes", workers=2)
    wait_for(lambda: bool(folds_in(folding.home)))
    pool = set(folds_in(folding.home).values())
    folding.process.kill()
    folding.process.wait()
    wait_for(lambda: not folds_in(folding.home))
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pool))
