"""What may be deleted: the rules, and that nothing else goes."""

import json
import os
import shutil
import tarfile
import threading
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from lamps import draw

from data import digests, whole
from data.history import records
from data.prepare import prepare
from data.spec import DatasetSpec
from flows.api import MOST, FlowRun
from flows.health import growth, tidying
from flows.health.retention import Keep, Kind, Ran, Thing, plan
from models.claims import claim, release

GOLDEN = Path(__file__).parents[1] / "golden/bundle-v1"
NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
DAY = timedelta(days=1)
OURS = {"digests", "splits", "snapshots"}  # folders beside the unpacked archives
EVERYTHING_GOES = Keep(
    runs_days=0,
    runs_at_least=0,
    light_days=0,
    folders_days=0,
    folders_at_least=0,
    versions=0,
    cache_gb=0,
    cache_days=0,
    logs_days=0,
    sweeps_days=0,
)


def thing(kind: Kind, name: str, days: float, **more: Any) -> Thing:
    return Thing(kind=kind, name=name, used=NOW - timedelta(days=days), **{"bytes": 1_000, **more})


def gone(things: list[Thing], **keep: Any) -> list[str]:
    return sorted(one.name for one in plan(NOW, Keep(**keep), things=things, runs=[]).things)


def test_run_folders_stay_for_their_days_and_so_many_of_them_however_old():
    folders = [thing("run folder", f"{days:03}", days) for days in (1, 29, 31, 60, 90)]
    assert gone(folders, folders_at_least=0) == ["031", "060", "090"]
    assert gone(folders, folders_at_least=4) == ["090"]
    assert gone(folders) == []  # ten by default


def test_nothing_goes_that_is_held_or_might_be_gone_on_with():
    held = [
        thing("run folder", "the run of the champion", 400, held="the run of digits@1, champion"),
        thing("run folder", "worked on", 400, held="a process works in it"),
        thing("run folder", "unfinished", 6, unfinished=True),
        thing("model", "digits@1", 400, held="it is the champion", group="digits"),
    ]
    assert plan(NOW, EVERYTHING_GOES, things=held, runs=[]).things == ()
    assert gone([thing("run folder", "given up", 31, unfinished=True)], folders_at_least=0) == ["given up"]


def test_of_each_model_so_many_versions_stay():
    digits = [thing("model", f"digits@{age:02}", age, group="digits") for age in range(25)]
    roses = [thing("model", f"roses@{age:02}", age, group="roses") for age in range(3)]
    assert gone(digits + roses) == [f"digits@{age}" for age in range(20, 25)]
    held = thing("model", "digits@99", 99, group="digits", held="it is the previous")
    assert gone([*digits, held], versions=25) == []


def test_caches_go_by_size_the_oldest_first_and_when_nobody_reads_them():
    caches = [thing("cache", f"/home/images/{days}", days, bytes=20_000_000_000) for days in (1, 2, 3)]
    assert gone(caches) == ["/home/images/3"]
    assert gone(caches, cache_gb=10) == [one.name for one in caches]
    assert gone([thing("cache", "small and old", 31)]) == ["small and old"]


def test_logs_and_sweeps_go_by_age():
    things = [thing("log", "new", 13), thing("log", "old", 15), thing("sweep", "s", 89), thing("sweep", "t", 91)]
    assert gone(things) == ["old", "t"]


def test_flow_runs_stay_for_their_days_and_upkeep_for_fewer():
    def ran(days: float, *, light: bool = False) -> Ran:
        return Ran(id=uuid4(), end=NOW - timedelta(days=days), light=light)

    nights = [ran(days) for days in range(1, 101)]
    upkeep = [ran(hours / 24, light=True) for hours in range(1, 24 * 5)]
    going = set(plan(NOW, Keep(), things=[], runs=[*nights, *upkeep]).runs)
    assert going == {run.id for run in nights[50:]} | {run.id for run in upkeep if NOW - run.end > timedelta(days=3)}
    assert len(plan(NOW, EVERYTHING_GOES, things=[], runs=nights).runs) == 100


class Ended:
    """What a server says of these runs that have ended."""

    def __init__(self, runs: list[FlowRun]) -> None:
        self.runs = sorted(runs, key=lambda run: run.end_time or NOW, reverse=True)

    def flow_runs(self, chosen: dict[str, Any], *, sort: str) -> list[FlowRun]:
        assert sort == "END_TIME_DESC"
        asked, offset = chosen["flow_runs"], chosen["offset"]
        before = datetime.fromisoformat(asked.get("end_time", {}).get("before_", NOW.isoformat()))
        queues = asked.get("work_queue_name", {}).get("any_")
        unbegun = asked.get("start_time", {}).get("is_null_", False)
        found = [
            run
            for run in self.runs
            if (run.end_time or NOW) < before
            if queues is None or run.work_queue_name in queues
            if not unbegun or run.start_time is None
        ]
        return found[offset : offset + MOST]


def test_many_trainings_a_day_are_no_reason_that_old_ones_stay_for_ever():
    def ended(days: float, queue: str, *, begun: bool = True) -> FlowRun:
        end = NOW - timedelta(days=days)
        return FlowRun(id=uuid4(), name="x", work_queue_name=queue, start_time=end if begun else None, end_time=end)

    quarters = [ended(days / 96, "training") for days in range(1, 40 * 96)]
    upkeep = [ended(days, "light") for days in (1, 4)]
    skipped = [ended(days, "training", begun=False) for days in (1, 4)]
    found = [*tidying.ended_runs(Ended([*quarters, *upkeep, *skipped]), Keep(), NOW)]
    going = set(plan(NOW, Keep(), things=[], runs=found).runs)
    assert {upkeep[1].id, skipped[1].id} <= going
    assert {run.id for run in quarters} & going == {run.id for run in quarters if NOW - run.end_time > 30 * DAY}


def test_a_plan_says_what_goes_in_one_line():
    things = [thing("run folder", "a", 40, bytes=10**9), thing("run folder", "b", 41), thing("log", "c", 40)]
    runs = [Ran(id=uuid4(), end=NOW - timedelta(days=40), light=False)]
    said = plan(NOW, Keep(folders_at_least=0, runs_at_least=0), things=things, runs=runs).sentence
    assert said == "2 run folders, 1 log, 1 flow run; 1.0 GB"
    assert plan(NOW, Keep(), things=[], runs=[]).sentence == "nothing"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    for name in ("20260101-a", "20260102-b", "20260103-c"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "experiment.json").write_text("{}")
    (tmp_path / "images" / "key").mkdir(parents=True)
    (tmp_path / "images" / "key" / "pixels.npy").write_bytes(b"123")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "run-1.log").write_text("said")
    return tmp_path


def test_what_is_there_is_seen_with_its_size_and_who_works_in_it(place: Path):
    assert claim(place / "runs/20260102-b")
    try:
        found = {one.name: one for one in growth.things(place)}
    finally:
        release(place / "runs/20260102-b")
    assert found["20260102-b"].held == "a process works in it"
    assert found["20260101-a"].held is None
    assert found["20260101-a"].unfinished
    assert found[str(place / "images/key")].bytes == 3
    assert {one.kind for one in found.values()} == {"run folder", "cache", "log"}


def test_a_look_at_a_run_folder_does_not_make_it_younger(place: Path):
    before = {one.name: one.used for one in growth.things(place)}
    assert {one.name: one.used for one in growth.things(place)} == before


def test_only_what_the_plan_says_is_deleted_and_what_a_kill_left(place: Path):
    (place / "runs" / ".gone-20251231-z").mkdir()
    what = plan(NOW + timedelta(days=365), EVERYTHING_GOES, things=growth.things(place), runs=[])
    (place / "runs" / "20260104-d").mkdir()  # since the plan was made
    assert claim(place / "runs/20260102-b")  # and somebody has begun to work here
    try:
        tidying.carry_out(place, what, None)
    finally:
        release(place / "runs/20260102-b")
    left = {path.relative_to(place).as_posix() for path in place.glob("*/*")}
    assert left == {"runs/20260102-b", "runs/20260104-d"}


def test_an_unpacked_archive_that_nobody_asks_for_goes_with_what_is_remembered_of_it(place: Path):
    def sources() -> set[str]:
        return {path.name for path in (place / "datasets").glob("[!.]*") if path.is_dir()}

    spec = DatasetSpec(source=str(place / "lamps.tar"))
    for number in (1, 2):  # the archive changes
        draw(place / "drawn" / str(number), per_class=10 * number)
        with tarfile.open(place / "lamps.tar", "w") as archive:
            archive.add(place / "drawn" / str(number), "lamps")
        prepare(spec, place)
    old, new = sorted(sources() - OURS, key=lambda name: (place / "datasets" / name).stat().st_mtime)
    long_ago = (datetime.now(UTC) - 31 * DAY).timestamp()
    for name in (old, new):
        os.utime(place / "datasets" / name, (long_ago, long_ago))
    memory = digests.memory_of(place / "datasets" / old, place)
    memory.parent.mkdir(exist_ok=True)
    memory.write_text("{}")  # what has just been written is not remembered yet
    what = tidying.planned(place, Keep(), None)
    assert {Path(one.name).name for one in what.things} == {old, new}
    prepare(spec, place)  # and the new one is asked for, since the plan was made
    tidying.carry_out(place, what, None)
    assert sources() == OURS | {new}
    assert not memory.exists()
    assert tidying.planned(place, Keep(), None).things == ()


def test_what_was_taken_from_shards_goes_when_nobody_has_read_it(place: Path):
    shards = place / "datasets" / "shards"
    for number, days in enumerate((31, 1)):
        file = shards / f"bucket{number}" / "0.tar"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
        then = (datetime.now(UTC) - days * DAY).timestamp()
        for path in (file, file.parent):
            os.utime(path, (then, then))
    (shards / "what-others-shards-hold.index").touch()
    tidying.carry_out(place, tidying.planned(place, Keep(), None), None)
    assert {path.name for path in shards.iterdir()} == {"bucket1", "what-others-shards-hold.index"}


def recorded(place: Path, digit: str, *, days: float, last_of: str | None = None) -> Path:
    """The record of pictures with this fingerprint."""
    file = records.folder(place) / f"{digit * 64}-seed0-val0.1-test0.15.csv.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"1234567890")
    when = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    os.utime(file, (when, when))
    if last_of:
        last = records.Last(record=file.name.removesuffix(records.SUFFIX), when=NOW.isoformat())
        (file.parent / f"{last_of}.json").write_text(last.model_dump_json())
    return file


def test_a_record_of_pictures_stays_while_a_model_or_a_run_or_its_data_set_names_it(place: Path):
    card = json.loads((GOLDEN / "card.json").read_text())
    card["lineage"]["fingerprint"] = "a" * 64
    stored = place / "bentoml/models/roses/v1/bundle"
    shutil.copytree(GOLDEN, stored)
    (stored / "card.json").write_text(json.dumps(card))
    (place / "runs/20260101-a/fingerprint").write_text("b" * 64)
    for digit in "abde":
        recorded(place, digit, days=400)
    recorded(place, "c", days=400, last_of="roses")
    recorded(place, "f", days=29)
    found = {Path(one.name).name[0]: one for one in growth.things(place) if one.kind == "snapshot record"}
    assert found["a"].held == "roses@v1 saw these pictures"
    assert found["b"].held == "run 20260101-a saw these pictures"
    assert found["c"].held == "it is the last one of its data set"
    assert found["d"].bytes == 10
    what = plan(datetime.now(UTC), Keep(), things=[*found.values()], runs=[])
    assert what.sentence == "2 snapshot records; 0.0 GB"
    recorded(place, "e", days=0)  # a run has kept it again, since the plan was made
    tidying.carry_out(place, what, None)
    assert {file.name[0] for file in records.folder(place).glob("*.gz")} == set("abcef")
    (stored / "card.json").write_text("{")
    assert {one.held for one in growth.things(place) if one.kind == "snapshot record"} == {
        "the model store cannot be read"
    }


def test_half_a_cache_goes_a_week_after_it_was_last_written_to(place: Path):
    part = place / "images/.other.part"
    part.mkdir()
    (part / "pixels.u8").write_bytes(b"1234")
    (half,) = (one for one in growth.things(place) if one.unfinished and one.kind == "cache")
    assert (half.bytes, half.held) == (4, None)
    assert plan(NOW, EVERYTHING_GOES, things=[half.model_copy(update={"used": NOW - 6 * DAY})], runs=[]).things == ()
    what = plan(NOW, Keep(), things=[half.model_copy(update={"used": NOW - 8 * DAY})], runs=[])
    assert len(what.things) == 1
    with whole.locked(place / "images/other"):  # somebody has gone on with it
        assert [one.held for one in growth.things(place) if one.name == str(part)] == ["a process works in it"]
        tidying.carry_out(place, what, None)
        assert part.exists()
    tidying.carry_out(place, what, None)
    assert not part.exists()


def swept(place: Path, name: str, trials: int, *, days: float = 0) -> None:
    """As a sweep leaves it."""
    when = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    files = [place / "sweeps" / name / "journal.log"]
    files += [place / "trials" / f"{name}-{number:03}" / "fit.json" for number in range(1, trials + 1)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"1234567890")
        os.utime(file, (when, when))


def tidied(place: Path, **keep: Any) -> set[str]:
    """What is left of sweeps and their trials."""
    tidying.carry_out(place, tidying.planned(place, Keep(**keep), None), None)
    return {path.relative_to(place).as_posix() for name in ("sweeps", "trials") for path in (place / name).glob("*")}


def test_a_sweep_goes_with_its_trials_and_no_other_ones(place: Path):
    swept(place, "night-0a1b2c", 2, days=91)
    swept(place, "night-0a1b2c-3d4e5f", 1, days=1)
    old, _ = sorted((one for one in growth.things(place) if one.kind == "sweep"), key=lambda one: one.name)
    assert old.bytes == 30
    assert tidied(place) == {"sweeps/night-0a1b2c-3d4e5f", "trials/night-0a1b2c-3d4e5f-001"}


def test_trials_whose_sweep_is_gone_go_by_age(place: Path):
    swept(place, "night-0a1b2c", 2, days=91)
    (place / "sweeps/night-0a1b2c/journal.log").unlink()
    (place / "sweeps/night-0a1b2c").rmdir()
    assert tidied(place, sweeps_days=100) == {"trials/night-0a1b2c-001", "trials/night-0a1b2c-002"}
    assert tidied(place) == set()


def test_a_sweep_that_a_process_works_in_stays_with_its_trials(place: Path):
    swept(place, "night-0a1b2c", 1, days=91)
    what = tidying.planned(place, Keep(), None)
    assert claim(place / "sweeps/night-0a1b2c")
    try:
        tidying.carry_out(place, what, None)  # begun since the plan was made
        assert tidied(place) == {"sweeps/night-0a1b2c", "trials/night-0a1b2c-001"}
    finally:
        release(place / "sweeps/night-0a1b2c")


def test_a_model_that_cannot_be_read_keeps_run_folders_and_nothing_else(place: Path):
    bundle = place / "bentoml/models/roses/v1/bundle"
    bundle.mkdir(parents=True)
    (bundle / "card.json").write_text("{")
    found = {one.name: one for one in growth.things(place)}
    assert found["20260101-a"].held == "the model store cannot be read"
    assert {one.kind for one in found.values()} == {"run folder", "cache", "log"}


@pytest.mark.slow
def test_what_a_process_at_work_takes_away_meanwhile_does_no_harm(place: Path):
    over, run = threading.Event(), place / "runs/20260101-a"

    def work() -> None:
        for number in count():
            (run / "folds/0").mkdir(parents=True)
            for name in ("checkpoint.part", "progress.json"):
                (run / f".{name}-{number}").write_text("")
                (run / "folds/0" / name).write_text("")
                (run / f".{name}-{number}").replace(run / name)
                (run / "folds/0" / name).unlink()
            (run / "folds/0").rmdir()
            (run / "folds").rmdir()
            if over.is_set():
                return

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(300):
            growth.things(place)
    finally:
        over.set()
        worker.join()


def test_what_a_kill_left_of_a_model_or_a_file_that_was_being_deleted_goes(place: Path):
    store = place / "bentoml"
    (store / ".gone-20260101-a/bundle").mkdir(parents=True)
    (place / "logs/.gone-run-0.log").touch()
    tidying.carry_out(place, plan(NOW, Keep(), things=[], runs=[]), None)
    assert not list(store.glob(".gone-*"))
    assert not list((place / "logs").glob(".gone-*"))
