"""`kill -9` of a run, of the worker, of everything and of the server, in the middle of training; and cancels.

Each ends within the stated time or goes on, holds no place, repeats nothing that was done, and has the weights of a run
that nobody disturbed. What is left is told by the list of processes, not by states alone.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from deployed import Deployed, Server, kill, processes_of
from lamps import SMALL, Command, wait_for
from servers import PrefectServer

from flows.health.processes import runs_flows
from flows.slots import held_by
from models.records import FoldResult
from models.run import RunFolder
from models.training.folds import ended_folds

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]

EPOCHS = 24
ALL = [*SMALL, "--train.batch_size", "4", "--train.epochs", str(EPOCHS), "--train.patience", "never"]
FOREVER = ["train.epochs=5000"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deaths")


@pytest.fixture(scope="module")
def deployed(quick_server: PrefectServer, pictures: Path, home: Path) -> Iterator[Deployed]:
    tokens = ["--dataset.source", pictures, *ALL, "--crossval.folds", "2"]
    with Deployed(home, quick_server.api, *tokens, TRAINSERVE_LOOK_SECONDS="3") as there:
        yield there


@pytest.fixture(scope="module")
def undisturbed(deployed: Deployed) -> bytes:
    """Weights."""
    run = begin(deployed, "undisturbed")
    deployed.server.wait_until(run, "Completed", "Failed", "Crashed", timeout_s=240)
    assert deployed.server.states(run)[-1] == "Completed"
    return weights(folder(deployed, "undisturbed"))


def begin(deployed: Deployed, name: str, *changes: str) -> str:
    """A run that is like the others but for its name; it takes nothing over from them."""
    return deployed.server.begin("train-by-hand", changes=[f"name={name}", *changes], refresh=["all"])


def folder(deployed: Deployed, name: str) -> Path:
    """The only one of this name."""
    found = [
        file.parent
        for file in deployed.runs_at.glob("[0-9]*/experiment.json")
        if json.loads(file.read_text())["name"] == name
    ]
    assert len(found) == 1
    return found[0]


def epochs(deployed: Deployed, name: str) -> list[int]:
    try:
        lines = (folder(deployed, name) / "history.jsonl").read_text().splitlines()
    except (AssertionError, FileNotFoundError):
        return []
    return [json.loads(line)["epoch"] for line in lines]


def in_the_middle(deployed: Deployed, name: str, *, at_least: int = 4) -> None:
    wait_for(lambda: len(epochs(deployed, name)) >= at_least, timeout_s=180, every_s=0.05)


def folds(deployed: Deployed, name: str) -> tuple[FoldResult, ...]:
    """Both, which have ended before the training begins."""
    ended = ended_folds(RunFolder(folder(deployed, name)))
    assert len(ended) == 2
    return ended


def weights(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


def kill_deploy(deployed: Deployed, *more: int) -> None:
    """With its worker; a restart of the machine would take `more` along."""
    assert deployed.process is not None
    for pid in (deployed.worker_pid(), deployed.process.pid, *more):
        with suppress(ProcessLookupError):
            kill(pid)
    deployed.process.wait()


def engine_of(run: str) -> int:
    (pid,) = [pid for pid in processes_of(run) if runs_flows(Path(f"/proc/{pid}/cmdline").read_bytes())]
    return pid


def nothing_left(deployed: Deployed, run: str) -> bool:
    """No process of the run, and no place held."""
    return not processes_of(run) and not any(places_held(deployed))


def places_held(deployed: Deployed) -> list[str]:
    names = [file.name.removesuffix(".lock") for file in (deployed.home / "places").glob("cpu-*.lock")]
    os.environ["TRAINSERVE_PLACES"] = str(deployed.home / "places")
    try:
        return [name for name in names if held_by(name)]
    finally:
        del os.environ["TRAINSERVE_PLACES"]


def counted(server: Server) -> int:
    return sum(int(one["active_slots"]) for one in server.post("v2/concurrency_limits/filter", limit=200))


def went_on(deployed: Deployed, run: str, name: str, before: tuple[FoldResult, ...], undisturbed: bytes) -> None:
    """To the end, as if nothing had happened."""
    wait_for(lambda: deployed.server.state(run)["name"] == "Completed", timeout_s=240)
    there = folder(deployed, name)
    assert epochs(deployed, name) == list(range(EPOCHS))
    assert ended_folds(RunFolder(there)) == before  # with the seconds that each took
    assert weights(there) == undisturbed
    wait_for(lambda: nothing_left(deployed, run), timeout_s=20)
    wait_for(lambda: counted(deployed.server) == 0, timeout_s=20)


def test_a_run_that_is_killed_is_marked_at_once_and_goes_on(deployed: Deployed, undisturbed: bytes):
    run = begin(deployed, "killed")
    in_the_middle(deployed, "killed")
    before, done = folds(deployed, "killed"), len(epochs(deployed, "killed"))
    kill(engine_of(run))
    killed_at = time.monotonic()
    wait_for(lambda: "Crashed" in deployed.server.states(run), timeout_s=15)
    took = time.monotonic() - killed_at
    went_on(deployed, run, "killed", before, undisturbed)
    states = deployed.server.states(run)
    assert [name for name in states if name not in ("Late", "Submitting")] == [
        *("Scheduled", "Pending", "Running", "Crashed"),
        *("AwaitingRetry", "Pending", "Running", "Completed"),
    ]
    assert 4 <= done < EPOCHS
    assert took < 10  # the stated 5 s, and a busy machine


def test_a_run_whose_worker_is_killed_goes_on_by_itself(deployed: Deployed, undisturbed: bytes):
    run = begin(deployed, "worker")
    in_the_middle(deployed, "worker")
    before = folds(deployed, "worker")
    kill(deployed.worker_pid())
    went_on(deployed, run, "worker", before, undisturbed)
    assert "Crashed" not in deployed.server.states(run)
    # That further runs happen, with the worker that follows, is what the next test begins with.


def test_a_run_whose_worker_and_keeper_are_killed_is_marked_by_the_server_and_goes_on_later(
    deployed: Deployed, undisturbed: bytes
):
    run = begin(deployed, "all")
    in_the_middle(deployed, "all")
    before = folds(deployed, "all")
    killed_at = time.monotonic()
    kill_deploy(deployed, engine_of(run))
    wait_for(lambda: nothing_left(deployed, run), timeout_s=10)
    wait_for(lambda: deployed.server.state(run)["name"] == "Crashed", timeout_s=130)
    assert time.monotonic() - killed_at < 120  # the stated time
    deployed.start()
    went_on(deployed, run, "all", before, undisturbed)


def test_a_run_that_died_with_its_machine_goes_on_as_soon_as_that_is_back(
    deployed: Deployed, quick_server: PrefectServer, undisturbed: bytes
):
    """The server's automation is blind to what ended while it was away."""
    run = begin(deployed, "machine")
    in_the_middle(deployed, "machine")
    before = folds(deployed, "machine")
    kill_deploy(deployed, engine_of(run))
    quick_server.kill()
    quick_server.start()
    assert deployed.server.state(run)["name"] == "Running"
    deployed.start()
    wait_for(lambda: "Crashed" in deployed.server.states(run), timeout_s=15)
    went_on(deployed, run, "machine", before, undisturbed)


def test_a_run_whose_server_is_killed_goes_on(deployed: Deployed, quick_server: PrefectServer, undisturbed: bytes):
    run = begin(deployed, "server")
    in_the_middle(deployed, "server")
    before, engine = folds(deployed, "server"), engine_of(run)
    quick_server.kill()
    time.sleep(15)
    assert Path(f"/proc/{engine}").exists()
    quick_server.start()
    went_on(deployed, run, "server", before, undisturbed)
    assert "Crashed" not in deployed.server.states(run)


def test_a_run_that_is_marked_as_dead_by_mistake_says_that_it_lives(deployed: Deployed, undisturbed: bytes):
    """As the server's automation marks it when that server was away for some minutes."""
    run = begin(deployed, "mistaken")
    in_the_middle(deployed, "mistaken")
    before, engine = folds(deployed, "mistaken"), engine_of(run)
    deployed.server.post(f"flow_runs/{run}/set_state", state={"type": "CRASHED", "name": "Crashed"})
    wait_for(lambda: deployed.server.state(run)["name"] == "Running", timeout_s=10)
    assert engine_of(run) == engine
    went_on(deployed, run, "mistaken", before, undisturbed)
    assert deployed.server.states(run)[-3:] == ["Crashed", "Running", "Completed"]


def cancelled_within(deployed: Deployed, run: str, seconds: float) -> None:
    """From the click to an empty list of processes."""
    deployed.server.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    clicked = time.monotonic()
    wait_for(lambda: nothing_left(deployed, run), timeout_s=60, every_s=0.05)
    took = time.monotonic() - clicked
    deployed.server.wait_until(run, "Cancelled", timeout_s=20)
    wait_for(lambda: counted(deployed.server) == 0, timeout_s=20)
    assert took < seconds


def test_a_cancel_ends_all_processes_within_ten_seconds_and_keeps_the_step(deployed: Deployed):
    run = begin(deployed, "cancelled", *FOREVER, "crossval.folds=0", "train.checkpoint_every=100000")
    in_the_middle(deployed, "cancelled")
    cancelled_within(deployed, run, 10)
    there = folder(deployed, "cancelled")
    assert list((there / "checkpoint").glob("*.pt"))
    command = Command(deployed.home, deployed.env)
    process = command.start("run", "--resume", there.name)
    try:  # it goes on from the step that the cancel had it save
        wait_for(lambda: "going on with run" in (there / "run.log").read_text(), timeout_s=120)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert "from step " in said


def test_a_cancel_reaches_torchruns_children(deployed: Deployed):
    run = begin(deployed, "several", *FOREVER, "crossval.folds=0", "train.devices=2")
    in_the_middle(deployed, "several", at_least=2)
    assert len(processes_of(run)) >= 4  # the run, torchrun, and two that train
    cancelled_within(deployed, run, 10)
    assert list((folder(deployed, "several") / "checkpoint").glob("*.pt"))


def test_a_cancel_reaches_a_run_that_has_no_worker_any_more(deployed: Deployed):
    run = begin(deployed, "orphan", *FOREVER, "crossval.folds=0")
    in_the_middle(deployed, "orphan")
    kill_deploy(deployed)
    cancelled_within(deployed, run, 10)
    assert list((folder(deployed, "orphan") / "checkpoint").glob("*.pt"))


def test_a_run_at_a_terminal_is_cancelled_from_the_ui_as_well(deployed: Deployed, pictures: Path, tmp_path: Path):
    command = Command(tmp_path, {**deployed.env, "TRAINSERVE_HOME": str(tmp_path / "terminal")})
    forever = [*SMALL, "--train.batch_size", "4", "--train.epochs", "5000", "--train.patience", "never"]
    process = command.start("run", "--dataset.source", pictures, *forever)
    try:
        there = tmp_path / "terminal" / "runs"
        wait_for(lambda: bool(list(there.glob("*/history.jsonl"))), timeout_s=120)
        chosen = {"tags": {"all_": ["trainserve"]}, "state": {"type": {"any_": ["RUNNING"]}}}
        (run,) = deployed.server.post("flow_runs/filter", flow_runs=chosen)
        deployed.server.post(f"flow_runs/{run['id']}/set_state", state={"type": "CANCELLING"})
        _, said = process.communicate(timeout=20)
        assert process.returncode == 143
        assert "`trainserve run --resume" in said
        deployed.server.wait_until(run["id"], "Cancelled", timeout_s=10)
    finally:
        process.kill()
