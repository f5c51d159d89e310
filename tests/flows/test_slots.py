"""Places to train on: locks of this host, and a Prefect server's count that follows them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deployed import Server
from lamps import ROOT, SMALL, Command, draw, environment, wait_for
from prefect import State
from prefect.logging import disable_run_logger
from servers import PrefectServer

from data.prepare import prepare
from data.spec import DatasetSpec
from flows import leases, slots
from flows.prepare import Prepared
from flows.slots import Place
from flows.sweep.trial import folder_of, made, trial
from models.config import Experiment
from models.training.told import Stopped

HOLD = """
import sys, time
from flows import slots
slots.cores = lambda: 2
with slots.place("cpu", int(sys.argv[1]), on_wait=lambda said: print(said, flush=True)) as taken:
    print("has", *(one.name for one in taken), flush=True)
    time.sleep(900)
"""


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINSERVE_PLACES", str(tmp_path / "places"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setattr(slots, "cores", lambda: 2)
    return tmp_path / "places"


@contextmanager
def holder(env: dict[str, str], n: int = 1) -> Iterator[subprocess.Popen[str]]:
    """Another process that wants `n` of two cores, and keeps them."""
    command = [sys.executable, "-c", HOLD, str(n)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.usefixtures("locks")
def test_places_are_given_in_order_and_back_at_the_end():
    with slots.place("cpu", 1) as first, slots.place("cpu", 1) as second:
        assert [one.name for one in (*first, *second)] == ["cpu-0", "cpu-1"]
        assert slots.held_by("cpu-0") is not None
    assert slots.held_by("cpu-0") is slots.held_by("cpu-1") is None
    assert slots.held_by("cpu-7") is None
    with slots.place("cpu", 9) as all_there_are:
        assert len(all_there_are) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("locks")
def test_a_place_is_free_at_once_when_its_holder_is_killed(tmp_path: Path):
    env = environment(tmp_path)
    with holder(env, 2) as one:
        assert said(one) == "has cpu-0 cpu-1"
        with holder(env, 1) as other:
            assert f"waiting for a place to train on; taken: cpu-0 (process {one.pid})" in said(other)
            one.kill()
            assert said(other) == "has cpu-0"


@pytest.mark.usefixtures("locks")
def test_who_waits_for_a_place_can_be_stopped():
    asked = iter([False, False, True])
    waited = pytest.raises(Stopped, match="while it waited for a place")
    with slots.place("cpu", 2), waited, slots.place("cpu", 1, stop=lambda: next(asked)):
        pass


@pytest.mark.usefixtures("locks")
def test_a_trial_in_the_process_of_its_sweep_trains_in_a_place(tmp_path: Path):
    spec = DatasetSpec(source=str(draw(tmp_path / "lamps", per_class=12)))
    fingerprint = prepare(spec, tmp_path / "home").images.snapshot.fingerprint
    prepared = Prepared(dataset=spec, home=tmp_path / "home", fingerprint=fingerprint)
    run = made(folder_of(prepared.home, "night-0a1b2c", 0), Experiment(dataset=spec), fingerprint)
    over = tmp_path / "orders"  # not there: whoever looks stops
    with slots.place("cpu", 2), disable_run_logger():
        state = trial.fn(1, run.path, tmp_path, over, prepared, threads=1, kind="cpu", apart_=False)
    assert isinstance(state, State)
    assert state.message == "stopped before the first step, while it waited for a place"


@pytest.mark.slow
@pytest.mark.usefixtures("locks")
def test_one_that_wants_many_is_not_overtaken_by_those_that_want_one(tmp_path: Path):
    env = environment(tmp_path)
    with holder(env, 1) as first:
        assert said(first) == "has cpu-0"
        with holder(env, 2) as many:
            assert "cpu-0" in said(many)  # it waits, with the other place in its hand
            with holder(env, 1) as late:
                assert "waiting" in said(late)
                first.kill()
                assert said(many) == "has cpu-0 cpu-1"
                many.kill()
                assert said(late) == "has cpu-0"


def test_locks_that_cannot_be_written_are_told_in_a_sentence(locks: Path):
    locks.write_text("a file where a folder should be")
    with pytest.raises(slots.InputError, match="set TRAINSERVE_PLACES to a folder you own"), slots.place("cpu", 1):
        pass


def test_a_lock_that_leads_elsewhere_is_not_written_to(locks: Path, tmp_path: Path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    locks.mkdir()
    (locks / "cpu-0.lock").symlink_to(precious)
    with pytest.raises(slots.InputError, match="cannot be written to"), slots.place("cpu", 1):
        pass
    assert precious.read_text() == "mine"


def test_a_folder_for_all_that_another_user_was_first_to_make_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TRAINSERVE_PLACES", raising=False)
    monkeypatch.setattr(slots.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(slots.os, "getuid", lambda: 4711)  # whose folder was made by us
    with pytest.raises(slots.InputError, match="it is another user's"), slots.place("cpu", 1):
        pass


@pytest.mark.parametrize(
    ("setting", "num", "names"),
    [
        (None, 2, ["0", "1"]),
        ("1", 1, ["1"]),
        ("3, 2", 2, ["3", "2"]),
        ("GPU-abc,GPU-def", 2, ["GPU-abc", "GPU-def"]),
        ("", 1, ["0"]),
    ],
)
def test_a_gpu_is_called_the_same_whoever_sees_it_as_his_first(setting: str | None, num: int, names: list[str]):
    assert slots.visible(setting, num) == names


def test_processes_started_for_some_gpus_see_no_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with slots.shown_alone((Place("gpu", 1, "gpu-1"), Place("gpu", 3, "gpu-3"))):
        assert slots.os.environ["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert "CUDA_VISIBLE_DEVICES" not in slots.os.environ
    with slots.shown_alone((Place("cpu", 0, "cpu-0"),)):
        assert "CUDA_VISIBLE_DEVICES" not in slots.os.environ


def test_limits_are_named_after_the_host_and_nothing_that_an_address_cannot_hold(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases.socket, "gethostname", lambda: "box.example/1")
    assert leases.limit_name("gpu-MIG-0/3") == "trainserve-box-example-1-gpu-MIG-0-3"


def test_the_places_of_a_host_are_not_those_of_one_whose_name_begins_alike(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases.socket, "gethostname", lambda: "box")
    assert leases.is_here("trainserve-box-gpu-GPU-abc")
    assert leases.is_here("trainserve-box-cpu-0")
    assert not leases.is_here("trainserve-box-2-gpu-0")


@pytest.mark.flow
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_is_counted_while_it_trains_and_not_afterwards(
    quick_server: PrefectServer, pictures: Path, tmp_path: Path
):
    command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=quick_server.api))
    forever = ["--train.epochs", "5000", "--train.batch_size", "4", "--train.patience", "never"]
    process = command.start("run", "--dataset.source", pictures, *SMALL, *forever)
    try:
        wait_for(lambda: 1 in counts(quick_server).values() or process.poll() is not None, timeout_s=300)
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=180)
        wait_for(lambda: not any(counts(quick_server).values()), timeout_s=30)  # its lease would last longer
    finally:
        process.kill()


@pytest.mark.flow
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_server_counts_one_holder_also_after_a_kill_and_a_restart(quick_server: PrefectServer, tmp_path: Path):
    env = environment(tmp_path, PREFECT_API_URL=quick_server.api)
    limit = leases.limit_name("cpu-0")

    def settled_at_one() -> bool:
        """While a holder follows another one the count is 0 for a moment."""
        if counts(quick_server).get(limit) != 1:
            return False
        time.sleep(2)
        return counts(quick_server)[limit] == 1

    with holder(env, 2) as one:
        assert said(one) == "has cpu-0 cpu-1"
        wait_for(settled_at_one, timeout_s=120)
        with holder(env, 1) as other:
            assert "waiting" in said(other)
            one.kill()  # its lease is still there
            assert said(other) == "has cpu-0"
            wait_for(settled_at_one, timeout_s=120)
            quick_server.kill()
            quick_server.start()
            assert other.poll() is None  # nothing happens to the one who trains
    with holder(env, 1) as third:
        assert said(third) == "has cpu-0"
        wait_for(settled_at_one, timeout_s=120)


def counts(server: PrefectServer) -> dict[str, int]:
    found = Server(server.api).post("v2/concurrency_limits/filter", limit=200)
    return {one["name"]: one["active_slots"] for one in found}
