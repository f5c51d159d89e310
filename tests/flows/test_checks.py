"""What `trainserve doctor` makes of what it sees: each check on values."""

import os
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from data import whole
from flows import leases
from flows.cli import checkup
from flows.health import checks_database, checks_machine, checks_server, checks_store, checks_work, listeners
from flows.health.checked import Checked
from tests.ports import free_port

NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
NOWHERE: Any = None  # a server that is not asked, as nothing is mended


def levels(found: Any) -> list[str]:
    return [one.level for one in found]


def test_versions_that_are_known_not_to_work_are_named():
    good = {"prefect": "3.8.8", "fastapi": "0.128.0", "sqlalchemy": "2.0.45", "torch": "2.15.0+cu130"}
    assert set(levels(checks_machine.judged(good))) == {"ok"}
    bad = {"fastapi": "0.155.1", "sqlalchemy": "2.1.0", "onnx": "1.20.0", "prefect": "3.7.2"}
    found = list(checks_machine.judged(bad))
    assert levels(found) == ["wrong"] * 4
    assert "install 'fastapi<0.151'" in found[0].message
    pair = list(checks_machine.judged({"torch": "2.14.0", "torchvision": "0.29.0"}, torch_wanted="2.15.0"))
    assert pair[1].message == "0.29.0 was built for torch 2.15.0, and 2.14.0 is installed"
    fits = checks_machine.judged({"torch": "2.15.0+cpu", "torchvision": "0.29.0"}, torch_wanted="2.15.0")
    assert levels(fits) == ["ok", "ok"]


def test_memory_of_a_gpu_that_is_held_for_no_run_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks_machine.listeners, "command_of", lambda pid: f"python {pid}.py")
    (one,) = checks_machine.gpu_memory("999999, 2048\n[Not Supported], x\n")
    assert (one.level, one.message) == (
        "note",
        "process 999999 (python 999999.py) holds 2.0 GB, for no run of this project's",
    )
    assert list(checks_machine.gpu_memory("")) == []


def test_who_listens_is_read_from_the_kernels_table():
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1068 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n"
        "   1: 0100007F:1068 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n"
    )
    assert listeners.listening(table, 4200) == {"4711"}
    assert listeners.listening(table, 3000) == set()


def hang_up(there: socket.socket) -> None:
    """On everyone who calls."""
    with suppress(OSError):
        while True:
            there.accept()[0].close()


def test_the_holder_of_a_port_is_named():
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        port = there.getsockname()[1]
        there.listen()
        Thread(target=hang_up, args=(there,), daemon=True).start()
        assert listeners.taken(port)
        assert str(listeners.holder(port)).startswith(f"process {os.getpid()} (")
        found = list(checks_machine.ports(serving=port, prefect=port))
    assert f"{port} is taken by process {os.getpid()}" in found[0].message
    free = free_port()
    assert not listeners.taken(free)
    assert levels(checks_machine.ports(serving=free, prefect=free)) == ["ok"]


@pytest.mark.parametrize(("seconds", "level"), [(1, "ok"), (-3, "ok"), (6, "note"), (-40, "wrong"), (3600, "wrong")])
def test_a_clock_that_differs_from_the_servers_is_told(seconds: float, level: str):
    assert checks_server.told_time(NOW + timedelta(seconds=seconds), NOW).level == level


def worker(name: str, status: str, silent_s: float) -> dict[str, Any]:
    seen = (NOW - timedelta(seconds=silent_s)).isoformat()
    return {"name": name, "status": status, "last_heartbeat_time": seen}


def test_one_living_worker_is_enough():
    found = checks_server.alive([worker("box", "OFFLINE", 9000), worker("other", "ONLINE", 12)], NOW)
    assert (found.level, found.message) == ("ok", "other gave a sign of life 12 s ago")
    dead = checks_server.alive([worker("box", "OFFLINE", 9000)], NOW)
    assert dead.level == "wrong"
    assert dead.message.startswith("none is alive; the last was here 2:30:00 ago: run `trainserve deploy`")
    assert checks_server.alive([], NOW).message.startswith("none is alive: run")


@pytest.mark.parametrize(
    ("last_polled_s", "created_s", "said"),
    [
        (3, 9000, []),
        (300, 9000, ["nobody has asked for the runs of training for 5:00"]),
        (None, 5, []),
        (None, 90, ["nobody"]),
    ],
)
def test_a_worker_that_lives_and_fetches_nothing_is_told(
    last_polled_s: float | None, created_s: float, said: list[str]
):
    def ago(seconds: float | None) -> str | None:
        return None if seconds is None else (NOW - timedelta(seconds=seconds)).isoformat()

    queue = {"name": "training", "last_polled": ago(last_polled_s), "created": ago(created_s)}
    found = [one.message for one in checks_server.polled(queue, NOW)]
    assert len(found) == len(said)
    assert all(message.startswith(words) for message, words in zip(found, said, strict=True))


def test_a_file_that_somebody_has_open_is_told_from_one_that_was_left(tmp_path: Path):
    file = tmp_path / "prefect.db"
    with file.open("w"):
        assert listeners.is_open(file)
    assert not listeners.is_open(file)


def deployment(*schedules: dict[str, Any], paused: bool = False) -> dict[str, Any]:
    return {"id": "d", "name": "train", "paused": paused, "schedules": list(schedules)}


def schedule(*, active: bool = True, cron: str = "0 3 * * *") -> dict[str, Any]:
    return {"id": "s", "active": active, "schedule": {"cron": cron}}


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("one", "due", "running", "said"),
    [
        (deployment(), [], False, []),
        (deployment(schedule()), [NOW + HOUR], False, ["ok train (0 3 * * *) is due next at 2026-11-22 07:30 UTC"]),
        (deployment(schedule(), paused=True), [], False, ["wrong train is paused"]),
        (deployment(schedule(active=False)), [], False, ["wrong that of train is switched off"]),
        (
            deployment(schedule(), schedule()),
            [NOW + HOUR],
            False,
            ["wrong train has 2 schedules", "ok train (0 3 * * *) is due next"],
        ),
        (deployment(schedule()), [], False, ["wrong train (0 3 * * *) has no next time"]),
        (deployment(schedule(cron="0 3 1 5 *")), [], False, ["ok train (0 3 1 5 *) is due in more than three months"]),
        (deployment(schedule(cron="0 3 1 1 *")), [], False, ["wrong train (0 3 1 1 *) has no next time"]),
        (deployment(schedule()), [NOW - HOUR, NOW + HOUR], False, ["wrong train was due 1:00:00 ago and waits"]),
        (deployment(schedule()), [NOW - HOUR, NOW + HOUR], True, ["ok train (0 3 * * *) is due next"]),
    ],
)
def test_a_schedule_has_to_be_active_alone_and_to_have_a_next_time(
    one: dict[str, Any], due: list[datetime], running: bool, said: list[str]
):
    found = list(checks_server.scheduled(NOWHERE, one, due, NOW, running=running))
    assert len(found) == len(said)
    for checked, words in zip(found, said, strict=True):
        assert f"{checked.level} {checked.message}".startswith(words)
        assert (checked.fix is not None) == any(word in words for word in ("paused", "switched off", "schedules"))


@pytest.mark.parametrize(
    ("enabled", "seconds", "level"),
    [(["events"], 7 * 86_400, "ok"), (["events"], 30 * 86_400, "note"), (None, 86_400, "wrong"), (True, 86_400, "ok")],
)
def test_a_server_that_keeps_events_for_ever_is_told(enabled: object, seconds: float, level: str):
    settings = {"events": {"retention_period": seconds}, "services": {"db_vacuum": {"enabled": enabled}}}
    assert checks_database.kept(settings).level == level


def test_a_large_sqlite_or_many_workers_ask_for_postgresql():
    assert checks_database.judged_sqlite(40_000_000, 120, 1) == Checked(
        "database", "ok", "SQLite, 40 MB, 120 flow runs"
    )
    assert "PostgreSQL suits better" in checks_database.judged_sqlite(2_000_000_000, 120, 1).message
    assert checks_database.judged_sqlite(40_000_000, 120, 3).level == "note"


def test_places_that_are_counted_and_not_held_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(leases.socket, "gethostname", lambda: "box")
    counts = {"trainserve-box-gpu-0": 1, "trainserve-box-gpu-1": 1, "trainserve-box-gpu-2": 0}
    assert leases.ownerless(counts, ["gpu-0"]) == ["trainserve-box-gpu-1"]


def test_upkeep_that_has_not_happened_for_two_hours_is_wrong():
    assert checks_work.kept_up(NOW - HOUR, NOW - 9 * HOUR, NOW).level == "ok"
    assert checks_work.kept_up(None, NOW - HOUR, NOW).level == "ok"
    assert checks_work.kept_up(NOW - 3 * HOUR, NOW - 9 * HOUR, NOW).level == "wrong"
    assert checks_work.kept_up(None, NOW - 3 * HOUR, NOW).message.startswith("maintain last ran never")


def test_a_role_of_a_model_that_is_gone_and_what_a_kill_left_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    (tmp_path / "trainserve/aliases").mkdir(parents=True)
    (tmp_path / "trainserve/aliases/roses.json").write_text('{"champion": "v1", "challenger": "v2"}')
    (tmp_path / "models/roses/v2/bundle").mkdir(parents=True)
    (one,) = checks_store.roles()
    assert (one.level, one.message.partition(";")[0]) == ("wrong", "roses@v1 is the champion and is not in the store")
    (tmp_path / ".saving-roses").mkdir()
    with whole.locked(tmp_path / "trainserve/saving/roses"):  # one that is being saved
        assert not list(checks_store.half_saved())
    (left,) = checks_store.half_saved()
    assert left.fix is not None
    left.fix()
    assert not list(checks_store.half_saved())


def test_a_check_that_fails_is_a_finding_and_a_mending_that_fails_a_sentence():
    def broken() -> Any:
        raise OSError("no such luck")
        yield

    (found,) = checkup.collect([broken])
    assert (found.what, found.level, found.message) == (
        "broken",
        "wrong",
        "could not be checked: OSError: no such luck",
    )

    def cannot() -> str:
        raise OSError("no such luck")

    said = checkup.mend(
        [Checked("a", "wrong", "", fix=cannot), Checked("b", "note", "", fix=lambda: "b is mended"), found]
    )
    assert said == ["a could not be mended: OSError: no such luck", "b is mended"]


def test_a_model_whose_card_is_damaged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    (tmp_path / "models/roses/v1/bundle").mkdir(parents=True)
    (tmp_path / "models/roses/v1/bundle/card.json").write_text("{")
    (found,) = checkup.collect([checks_store.models])
    assert found.level == "wrong"
    assert f"{tmp_path}/models/roses/v1/bundle/card.json is damaged" in found.message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"PREFECT_API_URL": "http://there:port/api"}, "the Prefect server at http://there:port/api does not answer"),
        ({"TRAINSERVE_HOME": "~nobody-of-this-name/home"}, "TRAINSERVE_HOME ~nobody-of-this-name/home is no folder"),
    ],
)
def test_an_address_or_a_home_that_is_none_is_a_finding_and_the_other_checks_go_on(
    settings: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"BENTOML_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path), **settings}.items():
        monkeypatch.setenv(name, value)
    found = checkup.collect(
        (*checkup.asked_for(checkup.of_the_server), checks_machine.home_folder, checks_store.models)
    )
    assert any(says in one.message for one in found if one.level == "wrong")
    assert any(one.what == "models" for one in found)
