"""Retention carried out: what the plan says goes is deleted whole.

The order of deleting is such that a kill in the middle leaves nothing half: a folder is renamed first, artifacts go
before the flow run that they hang on.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from data import digests, whole
from data.history import records
from flows.api import MOST, Api, FlowRun
from flows.health.growth import things, trials_of, written_at
from flows.health.retention import Keep, Plan, Ran, plan
from models.claims import claim, release, worked_on
from serving import roles, shelf, store, verdicts
from serving.refs import ModelRef

GONE = ".gone-"  # what a folder is called from the moment that it is deleted
ENDED = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
AT_ONCE = 50  # flow runs that the server deletes in one call
MOST_RUNS = 1_000  # in one go; the rest has time until the next


def planned(home: Path, keep: Keep, api: Api | None) -> Plan:
    """What would go now. Raises `Away`."""
    now = datetime.now(UTC)
    ended = [] if api is None else [*ended_runs(api, keep, now)]
    return plan(now, keep, things=things(home), runs=ended)


def carry_out(home: Path, what: Plan, api: Api | None) -> None:
    """Raises `Away`."""
    sweep_up(home)
    for thing in what.things:
        match thing.kind:
            case "model":
                remove_version(ModelRef(name=thing.group, version=thing.name.partition("@")[2]))
            case "run folder":
                remove_unless_worked_in(home / "runs" / thing.name)
            case "sweep":
                remove_sweep(Path(thing.name))
            case "unpacked archive":
                remove_unpacked(Path(thing.name), home, since=thing.used)
            case "cache" if thing.unfinished:
                remove_half(Path(thing.name))
            case "snapshot record":
                remove_record(Path(thing.name), home, since=thing.used)
            case _:
                remove(Path(thing.name))
    if api is not None:
        remove_runs(api, what.runs)


def remove(path: Path, *, by_way_of: Path | None = None) -> None:
    """A folder or a file, at once or not at all: first it is gone from where it is looked for."""
    gone = (by_way_of or path.parent) / f"{GONE}{path.name}"
    try:
        path.rename(gone)
    except FileNotFoundError:
        return
    delete(gone)


def delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_unless_worked_in(path: Path) -> bool:
    """Whether it is gone: somebody may have begun to work in it."""
    if not path.is_dir() or worked_on(path) or not claim(path):
        return False
    try:
        remove(path)
    finally:
        release(path)
    return True


def remove_sweep(path: Path) -> None:
    """The trials last: what a kill leaves of them is found by itself, and no sweep goes on without some of them."""
    trials = trials_of(path)
    if remove_unless_worked_in(path):
        for trial in trials:
            remove(trial)


def remove_unpacked(path: Path, home: Path, *, since: datetime) -> None:
    """With the digests that are remembered of it, unless somebody has asked for it since."""
    with whole.locked(path):
        if written_at([path]) == since:
            remove(path)
            digests.memory_of(path, home).unlink(missing_ok=True)


def remove_half(part: Path) -> None:
    """Of a cache, unless somebody has gone on with it."""
    with suppress(BlockingIOError), whole.locked(whole.target_of(part), wait=False):
        remove(part)


def remove_record(path: Path, home: Path, *, since: datetime) -> None:
    """Unless a run has kept it again since."""
    with whole.locked(records.folder(home)):
        if written_at([path]) == since:
            remove(path)


def remove_version(ref: ModelRef) -> None:
    """With its verdicts, unless it has been given a role meanwhile; and nobody gives it one while it goes."""
    with roles.still(ref.name) as held:
        if not held.holds(ref):
            remove(shelf.folder(ref), by_way_of=store.home())  # BentoML lists what is beside
            verdicts.forget(ref)


def sweep_up(home: Path) -> None:
    """What a kill left of earlier deleting."""
    for parent in (
        home / "runs",
        home / "images",
        home / "datasets",
        home / "datasets" / "shards",
        records.folder(home),
        home / "sweeps",
        home / "trials",
        home / "logs",
        store.home(),  # by way of which models go
    ):
        for left in parent.glob(f"{GONE}*"):
            delete(left)


def ended_runs(api: Api, keep: Keep, now: datetime) -> Iterator[Ran]:
    """The newest, so that they can be counted, and those that are old enough for some rule, each rule by itself: what
    one of them keeps is no reason that another one never sees the end of the list."""
    tagged: dict[str, object] = {"tags": {"all_": ["trainserve"]}, "state": {"type": {"any_": ENDED}}}
    old, light = (_before(now, days) for days in (keep.runs_days, keep.light_days))
    asked: list[tuple[dict[str, object], int]] = [
        ({}, keep.runs_at_least + MOST),
        (old, MOST_RUNS),
        ({**light, "work_queue_name": {"any_": ["light"]}}, MOST_RUNS),
        ({**light, "start_time": {"is_null_": True}}, MOST_RUNS),
    ]
    known: set[UUID] = set()
    for chosen, most in asked:
        for run in _paged(api, {**tagged, **chosen}, most):
            if run.id not in known and run.end_time is not None:
                known.add(run.id)
                is_light = run.work_queue_name == "light" or run.start_time is None
                yield Ran(id=run.id, end=run.end_time, light=is_light)


def _before(now: datetime, days: float) -> dict[str, object]:
    return {"end_time": {"before_": (now - timedelta(days=days)).isoformat()}}


def _paged(api: Api, chosen: dict[str, object], most: int) -> Iterator[FlowRun]:
    for offset in range(0, most, MOST):
        page = api.flow_runs({"flow_runs": chosen, "offset": offset}, sort="END_TIME_DESC")
        yield from page
        if len(page) < MOST:
            return


def remove_runs(api: Api, ids: Iterable[UUID]) -> None:
    """With their artifacts, which would stay for ever; tasks, states and logs go with the runs."""
    left = [str(one) for one in ids]
    for first in range(0, len(left), AT_ONCE):
        chosen = {"id": {"any_": left[first : first + AT_ONCE]}}
        while found := api.post("artifacts/filter", {"flow_runs": chosen, "limit": MOST}):
            for artifact in found:
                api.delete(f"artifacts/{artifact['id']}")
        api.post("flow_runs/bulk_delete", {"flow_runs": chosen, "limit": AT_ONCE})


def remove_idle_workers(api: Api, pool: str, now: datetime) -> int:
    """Those that have not been heard of for a day: each name that was ever used stays otherwise."""
    there = api.post(f"work_pools/{pool}/workers/filter", {"limit": MOST})
    idle = [one for one in there if now - datetime.fromisoformat(one["last_heartbeat_time"]) > timedelta(days=1)]
    for one in idle:
        api.delete(f"work_pools/{pool}/workers/{one['name']}")
    return len(idle)
