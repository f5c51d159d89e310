"""What becomes of runs that died, or seem to have: the rules, one by one."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from lamps import wait_for

from flows.api import FlowRun, State
from flows.health import processes, reaper
from flows.health.processes import Worked
from flows.health.reaper import WORKER, Change, Seen, verdicts

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
OURS = {WORKER: "box-1"}


def seen(state: str, age_s: float, *, here: bool = True, alive: bool | None = True, **more: Any) -> Seen:
    """A run whose state is so old; by default of this host, and at work."""
    known = {"sign_s", "crashes", "overtaken"} & set(more)
    facts = {name: more.pop(name) for name in known}
    sign = facts.pop("sign_s", None)
    run = FlowRun(
        id=uuid4(),
        name="night",
        deployment_id=more.pop("deployment_id", UUID(int=1)),
        work_queue_name=more.pop("queue", "training"),
        labels=more.pop("labels", OURS if here else {WORKER: "elsewhere"}),
        state=State(type=state, name=state.title(), timestamp=NOW - timedelta(seconds=age_s)),
    )
    assert not more
    heard = None if sign is None else NOW - timedelta(seconds=sign)
    return Seen(run=run, here=here, alive=alive, sign=heard, **facts)


def judged(one: Seen, *, listening_s: float | None = 3600) -> Change | None:
    since = None if listening_s is None else NOW - timedelta(seconds=listening_s)
    found = verdicts([one], NOW, listening_since=since)
    return found[0] if found else None


GONE, DAY = {"alive": False}, 86_400


@pytest.mark.parametrize(
    ("one", "name"),
    [
        pytest.param(seen("RUNNING", DAY), None, id="it works here"),
        pytest.param(seen("RUNNING", 60, **GONE), "Crashed", id="its process is gone"),
        pytest.param(seen("RUNNING", 2, **GONE), None, id="it has begun this moment"),
        pytest.param(seen("RUNNING", DAY, here=False, alive=False, sign_s=30), None, id="it works elsewhere"),
        pytest.param(seen("RUNNING", DAY, here=False, alive=False, sign_s=200), None, id="Prefect's own slowest pulse"),
        pytest.param(seen("RUNNING", DAY, here=False, alive=False, sign_s=250), "Crashed", id="silent elsewhere"),
        pytest.param(seen("RUNNING", 100, here=False, alive=False), None, id="no sign yet, but it is young"),
        pytest.param(seen("RUNNING", 300, here=False, alive=False), "Crashed", id="never a sign"),
        pytest.param(seen("RUNNING", 300, here=False, alive=True), None, id="another's worker on this host, at work"),
        pytest.param(
            seen("RUNNING", DAY, alive=None, sign_s=30), None, id="processes cannot be looked at: signs count"
        ),
        pytest.param(seen("RUNNING", DAY, alive=None, sign_s=250), "Crashed", id="and their absence"),
        pytest.param(seen("PENDING", 30, **GONE), None, id="its process is being started"),
        pytest.param(seen("PENDING", 90, **GONE), "Crashed", id="its process never came"),
        pytest.param(seen("PENDING", 90), None, id="its process imports"),
        pytest.param(seen("PENDING", 90, alive=None), None, id="processes cannot be looked at, and it may import"),
        pytest.param(seen("PENDING", 300, here=False, **GONE), None, id="a cluster fetches an image"),
        pytest.param(seen("PENDING", 700, here=False, **GONE), "Crashed", id="a cluster never started it"),
        pytest.param(
            seen("PENDING", 130, here=False, labels={}, **GONE), "Crashed", id="its worker died with it in hand"
        ),
        pytest.param(seen("CANCELLING", 5, **GONE), None, id="it has just been cancelled"),
        pytest.param(seen("CANCELLING", 15, **GONE), "Cancelled", id="nobody is left to say that it stopped"),
        pytest.param(seen("CANCELLING", 30), None, id="it saves"),
        pytest.param(seen("CANCELLING", 70), "Cancelled", id="it does not stop"),
        pytest.param(seen("CANCELLING", 300, here=False, sign_s=20, **GONE), None, id="it saves elsewhere"),
        pytest.param(seen("CANCELLING", 300, here=False, sign_s=290, **GONE), "Cancelled", id="gone elsewhere"),
        pytest.param(seen("CRASHED", 60, crashes=1, **GONE), "AwaitingRetry", id="it goes on"),
        pytest.param(seen("CRASHED", 60, crashes=2, **GONE), "AwaitingRetry", id="and once more"),
        pytest.param(seen("CRASHED", 60, crashes=3, **GONE), None, id="three attempts are enough"),
        pytest.param(seen("CRASHED", 7 * 3600, crashes=1, **GONE), None, id="too long ago"),
        pytest.param(seen("CRASHED", 60, crashes=1, overtaken=True, **GONE), None, id="a later one has begun"),
        pytest.param(seen("CRASHED", 60, crashes=1), None, id="marked dead by mistake"),
        pytest.param(seen("CRASHED", 60, crashes=1, deployment_id=None, **GONE), None, id="started at a terminal"),
        pytest.param(seen("CRASHED", 60, crashes=1, queue="light", **GONE), None, id="no training"),
        pytest.param(seen("CRASHED", 60, crashes=1, here=False, sign_s=100, **GONE), None, id="its own host is nearer"),
        pytest.param(seen("CRASHED", 300, crashes=1, here=False, **GONE), "AwaitingRetry", id="its host is gone"),
        pytest.param(seen("COMPLETED", 60, **GONE), None, id="it is done"),
        pytest.param(seen("SCHEDULED", DAY, **GONE), None, id="it waits"),
    ],
)
def test_what_becomes_of_a_run(one: Seen, name: str | None):
    change = judged(one)
    assert (change.state_name if change else None) == name


def test_a_server_that_came_back_just_now_is_given_time_to_hear_from_runs():
    silent = seen("RUNNING", DAY, here=False, alive=False, sign_s=600)
    assert judged(silent, listening_s=3600) is not None
    assert judged(silent, listening_s=20) is None
    assert judged(silent, listening_s=None) is None  # who looks once cannot know
    assert judged(seen("RUNNING", DAY, here=False, alive=False, sign_s=1000), listening_s=None) is not None


def test_only_processes_of_this_home_are_killed_and_the_message_says_why():
    stubborn = judged(seen("CANCELLING", 70))
    assert stubborn is not None
    assert stubborn.kill
    assert stubborn.sentence == ("run night: Cancelled, it did not stop and was killed; its last checkpoint is kept")
    silent = judged(seen("RUNNING", DAY, here=False, alive=False, sign_s=250))
    assert silent is not None
    assert not silent.kill
    assert silent.message == "no sign of life for 250 s"
    again = judged(seen("CRASHED", 60, crashes=1, alive=False))
    assert again is not None
    assert again.message == "goes on where it crashed, attempt 2 of 3"


def test_processes_are_told_by_their_environment_and_what_they_run():
    assert processes.run_of(b"PATH=/bin\0PREFECT__FLOW_RUN_ID=abc\0HOME=/") == "abc"
    assert processes.run_of(b"PATH=/bin\0NOT_PREFECT__FLOW_RUN_ID=abc\0") is None
    assert processes.run_of(b"") is None  # a zombie
    assert processes.runs_flows(b"/venv/bin/python\0-m\0flows.deploy.engine\0")
    assert processes.runs_flows(b"python\0-m\0prefect.engine\0")
    assert processes.runs_flows(b"python\0/venv/bin/prefect\0flow-run\0execute\0")
    assert not processes.runs_flows(b"python\0-m\0torch.distributed.run\0-m\0models.training.torchrun\0")


def test_the_processes_of_this_host_can_be_looked_at(monkeypatch: pytest.MonkeyPatch):
    run = str(uuid4())
    env = {**os.environ, "PREFECT__FLOW_RUN_ID": run}
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '300']); time.sleep(300)"
    process = subprocess.Popen([sys.executable, "-c", code, "engine"], env=env)

    def worked() -> Worked:
        return (processes.by_run() or {}).get(run, Worked())

    try:
        wait_for(lambda: bool(worked().others), timeout_s=60, every_s=0.02)
        found = worked()
        assert found.engine == (process.pid,)
        assert len(found.others) == 1
        processes.end(found)
        process.wait(60)
        wait_for(lambda: worked() == Worked(), timeout_s=60, every_s=0.02)
    finally:
        process.kill()
    monkeypatch.setattr(processes, "PROC", processes.Path("/nowhere"))
    assert processes.by_run() is None


def entry(proc: Path, pid: int, run: str, module: str, *, hidden: bool = False) -> None:
    """Of /proc."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(f"python\0-m\0{module}\0".encode())
    if hidden:
        (folder / "environ").mkdir()  # which cannot be read, also by root
    else:
        (folder / "environ").write_bytes(f"{processes.MARK.decode()}{run}\0".encode())


def test_flows_that_another_user_runs_are_not_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "PROC", tmp_path)
    entry(tmp_path / "self", 0, "", "pytest")
    (tmp_path / "self/environ").touch()
    entry(tmp_path, 7, "mine", "flows.deploy.engine")
    entry(tmp_path, 8, "theirs", "http.server", hidden=True)
    assert processes.by_run() == {"mine": Worked(engine=(7,))}
    entry(tmp_path, 9, "theirs", "flows.deploy.engine", hidden=True)
    assert processes.by_run() is None  # not known: their signs of life are looked at


def test_times_leave_room_for_prefects_own():
    assert timedelta(seconds=180) < reaper.SILENCE  # its default between two heartbeats
    assert reaper.CANCELLING < reaper.STUBBORN
