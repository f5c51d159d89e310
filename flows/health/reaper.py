"""Runs that died and did not say so: marked, and gone on with where that is worth it.

An automation marks runs whose heartbeats end (flows.deploy.automations). It is blind to a run that died while the
server was away, and it cannot count. So this looks at processes and times itself; the verdict is a pure function.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from data.spec import Frozen
from flows.api import Api, FlowRun
from flows.health import processes
from flows.health.processes import Worked

TAG = "trainserve"
AWAITING = "AwaitingRetry"
WORKER = "prefect.worker.name"  # the label by which a run says who started it

SETTLING = timedelta(seconds=5)  # a state that is younger may not have reached its process yet, or its process the list
STARTING = timedelta(seconds=60)  # until a worker has started the process of a run
HANDED_OVER = timedelta(seconds=120)  # until a worker has written its name on a run that it took
FETCHING = timedelta(minutes=10)  # until another host, or a cluster, has started one
CANCELLING = timedelta(seconds=10)  # the stated time to stop
STUBBORN = timedelta(seconds=60)  # then it is killed
SILENCE = timedelta(seconds=240)  # more than Prefect's own 180 s between two signs of life
LONG_SILENCE = timedelta(minutes=15)  # where it is not known how long the server has been listening
ATTEMPTS, WITHIN = 3, timedelta(hours=6)

ACTIVE = ["RUNNING", "PENDING", "CANCELLING"]


class Seen(Frozen):
    """What is known of a run."""

    run: FlowRun
    here: bool  # started by the worker of this home, on this host
    alive: bool | None  # a process of this host runs it; None where that cannot be known
    sign: datetime | None = None  # the last one of life; asked for only where no process can be looked at
    crashes: int = 0  # within the last hours, this one included
    overtaken: bool = False  # a later run of its deployment has begun


class Change(Frozen):
    """A new state for a run, and why."""

    run: UUID
    name: str
    state: Literal["CRASHED", "CANCELLED", "SCHEDULED"]
    state_name: str
    message: str
    kill: bool = False

    @property
    def sentence(self) -> str:
        return f"run {self.name}: {self.state_name}, {self.message}"


def verdicts(seen: Iterable[Seen], now: datetime, *, listening_since: datetime | None = None) -> list[Change]:
    """What is to be done. `listening_since`: when the server began to answer without a break, as far as is known."""
    patience = SILENCE if listening_since is not None and now - listening_since >= SILENCE else LONG_SILENCE
    found = (verdict(one, now, patience) for one in seen)
    return [change for change in found if change is not None]


def verdict(one: Seen, now: datetime, patience: timedelta) -> Change | None:
    """None where all is well, or not known to be otherwise."""
    state = one.run.state
    if state is None:
        return None
    age, silent = now - state.timestamp, now - max(one.sign or state.timestamp, state.timestamp)
    known = one.here and one.alive is not None
    match state.type:
        case "RUNNING":
            if known and not one.alive and age > SETTLING:
                return _crashed(one, "its process is gone")
            if not known and not one.alive and silent > patience:
                return _crashed(one, f"no sign of life for {silent.total_seconds():.0f} s")
        case "PENDING":
            if not one.alive and age > _until_begun(one):
                return _crashed(one, f"it was taken {age.total_seconds():.0f} s ago and has not begun")
        case "CANCELLING":
            return _cancelled(one, age, silent, patience, known=known)
        case "CRASHED" if worth_going_on(one, age) and not one.alive and (known or silent > patience):
            return Change(
                run=one.run.id,
                name=one.run.name,
                state="SCHEDULED",
                state_name=AWAITING,
                message=f"goes on where it crashed, attempt {one.crashes + 1} of {ATTEMPTS}",
                kill=known,  # what it may have left behind
            )
    return None


def worth_going_on(one: Seen, age: timedelta) -> bool:
    """A training that crashed lately, and not again and again; a later run of its deployment goes on by itself."""
    trains = one.run.deployment_id is not None and one.run.work_queue_name == "training"
    return trains and age < WITHIN and one.crashes < ATTEMPTS and not one.overtaken


def _until_begun(one: Seen) -> timedelta:
    if one.here and one.alive is not None:
        return STARTING
    return FETCHING if WORKER in one.run.labels else HANDED_OVER


def _cancelled(one: Seen, age: timedelta, silent: timedelta, patience: timedelta, *, known: bool) -> Change | None:
    if known and not one.alive and age > CANCELLING:
        why = "its process had gone"
    elif known and one.alive and age > STUBBORN:
        why = "it did not stop and was killed; its last checkpoint is kept"
    elif not known and not one.alive and min(age, silent) > patience:
        why = "nothing has been heard of it since"
    else:
        return None
    return Change(run=one.run.id, name=one.run.name, state="CANCELLED", state_name="Cancelled", message=why, kill=known)


def _crashed(one: Seen, message: str) -> Change:
    known = one.here and one.alive is not None
    return Change(run=one.run.id, name=one.run.name, state="CRASHED", state_name="Crashed", message=message, kill=known)


def survey(api: Api, worker: str, now: datetime) -> tuple[list[Seen], dict[str, Worked]]:
    """The runs that may need something, and the processes of this host. Raises `Away`."""
    tagged: dict[str, object] = {"tags": {"all_": [TAG]}}
    active = api.flow_runs({"flow_runs": {**tagged, "state": {"type": {"any_": ACTIVE}}}})
    since = {"after_": (now - WITHIN).isoformat()}
    crashed = api.flow_runs({"flow_runs": {**tagged, "state": {"type": {"any_": ["CRASHED"]}}, "end_time": since}})
    working = processes.by_run()  # after the states: one that ends meanwhile has its last state, and keeps it
    seen = [looked_at(api, run, worker, working, now) for run in (*active, *crashed)]
    return seen, working or {}


def looked_at(api: Api, run: FlowRun, worker: str, working: dict[str, Worked] | None, now: datetime) -> Seen:
    here = run.labels.get(WORKER) == worker
    alive = None if working is None else working.get(str(run.id), Worked()).alive
    known, crashed = here and alive is not None, run.type == "CRASHED"
    return Seen(
        run=run,
        here=here,
        alive=alive,
        sign=None if known else last_sign(api, run.id),
        crashes=crashes(api, run.id, now) if crashed else 0,
        overtaken=crashed and overtaken(api, run),
    )


def last_sign(api: Api, run: UUID) -> datetime | None:
    """The last heartbeat that the server has heard."""
    chosen = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    events = api.post("events/filter", {"filter": chosen, "limit": 1})["events"]
    return datetime.fromisoformat(events[0]["occurred"]) if events else None


def crashes(api: Api, run: UUID, now: datetime) -> int:
    states = api.get(f"flow_run_states/?flow_run_id={run}")
    times = [datetime.fromisoformat(state["timestamp"]) for state in states if state["type"] == "CRASHED"]
    return sum(now - when < WITHIN for when in times)


def overtaken(api: Api, run: FlowRun) -> bool:
    if run.deployment_id is None or run.state is None:
        return True
    later: dict[str, object] = {
        "deployments": {"id": {"any_": [str(run.deployment_id)]}},
        "flow_runs": {"start_time": {"after_": run.state.timestamp.isoformat(), "is_null_": False}},
    }
    return any(other.id != run.id for other in api.flow_runs(later, limit=2))


def carry_out(api: Api, changes: Sequence[Change], working: dict[str, Worked]) -> list[Change]:
    """Those that the server took: a run that has ended by itself meanwhile keeps its state. Raises `Away`."""
    done = []
    for change in changes:
        if change.kill:
            processes.end(working.get(str(change.run), Worked()))
        due = datetime.now(UTC) if change.state == "SCHEDULED" else None
        if due is not None and api.get(f"flow_runs/{change.run}")["state"]["type"] != "CRASHED":
            continue  # another one who looks after runs has seen to it
        if api.set_state(change.run, change.state, change.state_name, change.message, at=due):
            done.append(change)
            _end_tasks(api, change.run)
    return done


def _end_tasks(api: Api, run: UUID) -> None:
    """What the process that has gone was at: it would be shown as running for ever."""
    chosen = {
        "flow_runs": {"id": {"any_": [str(run)]}},
        "task_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}},
    }
    for task in api.post("task_runs/filter", {**chosen, "limit": 200}):
        state = {"type": "CRASHED", "name": "Crashed", "message": "the process of its flow run is gone"}
        api.ask("POST", f"task_runs/{task['id']}/set_state", {"state": state, "force": True})


def reap(api: Api, worker: str, *, listening_since: datetime | None = None) -> list[Change]:
    """Look, judge, and do it. Raises `Away`."""
    now = datetime.now(UTC)
    seen, working = survey(api, worker, now)
    return carry_out(api, verdicts(seen, now, listening_since=listening_since), working)
