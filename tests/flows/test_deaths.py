"""`kill -9` of a run, of the worker, of everything and of the server, in the middle of training; and cancels.

Each ends within the stated time or goes on, holds no place, repeats nothing that was done, and has the weights of a run
that nobody disturbed. What is left is told by the list of processes, not by states alone.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import pytest
from deployed import Deployed, Server, kill, processes_of, words_of
from lamps import SMALL, Command, wait_for
from servers import PrefectServer

from flows.health.processes import runs_flows
from flows.slots import held_by
from models.records import FoldResult
from models.run import RunFolder
from models.training.folds import ended_folds

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(1800)]

EPOCHS = 24
ALL = [*SMALL, "--train.batch_size", "4", "--train.epochs", str(EPOCHS), "--train.patience", "never"]
STOPPED = "stopped after step"
FOREVER = ["train.epochs=10000", "crossval.folds=0"]


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
    deployed.server.wait_until(run, "Completed")
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
    wait_for(lambda: len(epochs(deployed, name)) >= at_least, every_s=0.05)


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
    (pid,) = [pid for pid in processes_of(run) if runs_flows(b"\0".join(words_of(pid)))]
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


def changes(deployed: Deployed, run: str) -> list[str]:
    """Names of its states; two who look after runs may tell the server the same."""
    return [name for name, _ in groupby(deployed.server.states(run)) if name not in ("Late", "Submitting")]


def went_on(deployed: Deployed, run: str, name: str, before: tuple[FoldResult, ...], undisturbed: bytes) -> None:
    """To the end, as if nothing had happened."""
    deployed.server.wait_until(run, "Completed")
    there = folder(deployed, name)
    assert epochs(deployed, name) == list(range(EPOCHS))
    assert ended_folds(RunFolder(there)) == before  # with the seconds that each took
    assert weights(there) == undisturbed
    wait_for(lambda: nothing_left(deployed, run))
    wait_for(lambda: counted(deployed.server) == 0)


def test_a_run_that_is_killed_is_marked_at_once_and_goes_on(deployed: Deployed, undisturbed: bytes):
    server = deployed.server
    run = begin(deployed, "killed")
    in_the_middle(deployed, "killed")
    before, done = folds(deployed, "killed"), len(epochs(deployed, "killed"))
    kill(engine_of(run))
    killed_at = server.clock()
    wait_for(lambda: "Crashed" in server.states(run))
    took = server.clock() - killed_at
    went_on(deployed, run, "killed", before, undisturbed)
    assert changes(deployed, run) == [
        *("Scheduled", "Pending", "Running", "Crashed"),
        *("AwaitingRetry", "Pending", "Running", "Completed"),
    ]
    assert 4 <= done < EPOCHS
    assert took < 10  # the stated 5 s, and a busy machine


def test_a_run_whose_worker_is_killed_goes_on_by_itself_and_another_worker_follows(
    deployed: Deployed, undisturbed: bytes
):
    run = begin(deployed, "worker")
    in_the_middle(deployed, "worker")
    before, killed = folds(deployed, "worker"), deployed.worker_pid()
    kill(killed)
    killed_at = time.monotonic()
    wait_for(lambda: any(pid != killed for pid in deployed.worker_pids()))
    assert time.monotonic() - killed_at < 10  # the stated time; Prefect's import is as long as the machine makes it
    assert "the worker ended with status -9" in deployed.said()
    went_on(deployed, run, "worker", before, undisturbed)
    assert changes(deployed, run).count("Pending") == 1  # the same process to the end
    # That further runs happen, with the worker that follows, is what the next test begins with.


def test_a_run_whose_worker_and_keeper_are_killed_is_marked_by_the_server_and_goes_on_later(
    deployed: Deployed, undisturbed: bytes
):
    server = deployed.server
    run = begin(deployed, "all")
    in_the_middle(deployed, "all")
    before = folds(deployed, "all")
    killed_at = server.clock()
    kill_deploy(deployed, engine_of(run))
    wait_for(lambda: nothing_left(deployed, run))
    wait_for(lambda: server.state(run)["name"] == "Crashed", every_s=1)
    assert server.clock() - killed_at < 120  # the stated time
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
    went_on(deployed, run, "machine", before, undisturbed)
    assert "Crashed" in deployed.server.states(run)


def test_a_run_whose_server_is_killed_goes_on(deployed: Deployed, quick_server: PrefectServer, undisturbed: bytes):
    run = begin(deployed, "server")
    in_the_middle(deployed, "server")
    before, engine = folds(deployed, "server"), engine_of(run)
    quick_server.kill()
    wait_for(lambda: len(epochs(deployed, "server")) == EPOCHS)  # it trains all the same
    assert Path(f"/proc/{engine}").exists()
    quick_server.start()
    went_on(deployed, run, "server", before, undisturbed)
    assert changes(deployed, run).count("Pending") == 1  # the same process to the end


def cancelled_within_ten_seconds(server: Server, run: str, there: Path, gone: Callable[[], bool]) -> None:
    """From the click to the last step, which is kept, and to the end of all that was started for the training. What the
    run itself has left to do, tell the server and find its way out of Python, is as long as the machine makes it."""
    log = there / "run.log"  # made with its first line
    before = log.read_text().count(STOPPED) if log.exists() else 0

    def stopped() -> bool:
        server.state(run)  # or the clock would not notice that it stands still
        return log.exists() and log.read_text().count(STOPPED) > before and len(processes_of(run)) <= 1

    server.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    clicked = server.clock()
    wait_for(stopped, every_s=0.1)
    took = server.clock() - clicked
    assert list((there / "checkpoint").glob("*.pt"))
    server.wait_until(run, "Cancelled")
    wait_for(gone)
    wait_for(lambda: counted(server) == 0)
    assert took < 10


def test_a_run_that_is_marked_as_dead_by_mistake_says_that_it_lives_and_a_cancel_reaches_torchruns_children(
    deployed: Deployed,
):
    """Marked as the server's automation does when that server was away for some minutes."""
    server = deployed.server
    run = begin(deployed, "several", *FOREVER, "train.devices=2")
    in_the_middle(deployed, "several", at_least=2)
    engine = engine_of(run)
    server.post(f"flow_runs/{run}/set_state", state={"type": "CRASHED", "name": "Crashed"})
    wait_for(lambda: server.state(run)["name"] == "Running")
    assert server.states(run)[-2:] == ["Crashed", "Running"]
    assert Path(f"/proc/{engine}").exists()

    assert len(processes_of(run)) >= 4  # the run, torchrun, and two that train
    cancelled_within_ten_seconds(server, run, folder(deployed, "several"), lambda: nothing_left(deployed, run))


def test_a_cancel_ends_a_run_within_ten_seconds_and_the_next_one_goes_on_with_the_step_that_it_kept(
    deployed: Deployed,
):
    server = deployed.server
    asked = [*FOREVER, "name=cancelled", "train.checkpoint_every=100000"]
    run = server.begin("train-by-hand", changes=asked)
    in_the_middle(deployed, "cancelled")
    there = folder(deployed, "cancelled")
    cancelled_within_ten_seconds(server, run, there, lambda: nothing_left(deployed, run))

    again = server.begin("train-by-hand", changes=asked)
    wait_for(lambda: f"going on with run {there.name} from step " in (there / "run.log").read_text())
    kill_deploy(deployed)  # a cancel reaches a run that has no worker any more
    cancelled_within_ten_seconds(server, again, there, lambda: nothing_left(deployed, again))


def test_a_run_at_a_terminal_is_cancelled_from_the_ui_as_well(deployed: Deployed, pictures: Path, tmp_path: Path):
    server = deployed.server
    command = Command(tmp_path, {**deployed.env, "TRAINSERVE_HOME": str(tmp_path / "terminal")})
    forever = ["--train.batch_size", "4", "--train.epochs", "10000", "--train.patience", "never", "--name", "terminal"]
    process = command.start("run", "--dataset.source", pictures, *SMALL, *forever)
    with ThreadPoolExecutor(1) as other:
        ended = other.submit(process.communicate)  # it says so much that somebody has to listen
        try:
            wait_for(lambda: any((tmp_path / "terminal" / "runs").glob("*/history.jsonl")))
            (there,) = (tmp_path / "terminal" / "runs").glob("[0-9]*")
            (run,) = server.post("flow_runs/filter", flow_runs={"name": {"any_": ["terminal"]}})
            assert "trainserve" in run["tags"]
            cancelled_within_ten_seconds(server, run["id"], there, ended.done)
        finally:
            process.kill()
    assert process.returncode == 143
    assert "`trainserve run --resume" in ended.result()[1]
