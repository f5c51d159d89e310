"""Runs by the clock that come due while others run, or came due while nobody was there.

They wait, since the queue has so many places. Of those that wait the newest stays and the others are collapsed into it:
they would all train on what is there now. Where the deployment says skip, one that comes due while another runs is not
made up for. What somebody asked for by hand is never touched.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Literal
from uuid import UUID

from data.spec import Frozen
from flows import api
from flows.api import Api, Away, FlowRun, State

SKIP = "when-busy:skip"  # a tag of the deployment, which its runs inherit
WAITS = ("Scheduled", "Late", "AwaitingConcurrencySlot")  # not AwaitingRetry: that one has begun
BEGUN = ("RUNNING", "COMPLETED")  # a later one in such a state stands for those before it
Name = Literal["Collapsed", "Skipped"]
LATEST = 50  # runs that are looked at for one that was under way


class Instead(Frozen):
    """A run that does not happen, and why."""

    run: UUID
    state_name: Name
    message: str


def decide(waiting: Sequence[FlowRun], others: Sequence[FlowRun], now: datetime) -> list[Instead]:
    """What is to become of those that wait. `others`: what runs, or has run lately, wherever it came from."""
    due = [run for run in waiting if by_clock(run) and waits(run) and _at(run) <= now]
    skipped = [skip for run in due if (skip := skipped_for(run, others)) is not None]
    gone = {skip.run for skip in skipped}
    rest = sorted((run for run in due if run.id not in gone), key=lambda run: (str(run.deployment_id), _at(run)))
    collapsed: list[Instead] = []
    for _, group in groupby(rest, key=lambda run: run.deployment_id):
        *missed, newest = group
        collapsed += [stood_for(run, newest, len(missed)) for run in missed]
    return skipped + collapsed


def settled(mine: FlowRun, siblings: Sequence[FlowRun], others: Sequence[FlowRun], now: datetime) -> Instead | None:
    """What becomes of a run that is just beginning; None: it is to happen.

    It gives way to a later one that has begun, and to none that waits: it stands for those. Otherwise, where runs come
    due while one begins, each would give way to the next for ever.
    """
    if not by_clock(mine) or mine.run_count > 1:  # one that goes on after a crash has been decided on
        return None
    if (skip := skipped_for(mine, others)) is not None:
        return skip
    later = [
        run
        for run in siblings
        if run.id != mine.id and run.deployment_id == mine.deployment_id and by_clock(run) and run.type in BEGUN
        if _at(mine) < _at(run) <= now
    ]
    return stood_for(mine, max(later, key=_at), 1) if later else None


def by_clock(run: FlowRun) -> bool:
    return run.auto_scheduled and run.deployment_id is not None


def waits(run: FlowRun) -> bool:
    return run.state is not None and run.state.type == "SCHEDULED" and run.state.name in WAITS


def skipped_for(run: FlowRun, others: Iterable[FlowRun]) -> Instead | None:
    """Where the deployment says so, and another one of its queue was under way when this one came due."""
    if SKIP not in run.tags:
        return None
    for other in others:
        if other.id != run.id and other.work_queue_name == run.work_queue_name and under_way(other, _at(run)):
            message = f"run {other.name} was under way at {_at(run):%Y-%m-%d %H:%M} UTC, and the schedule says skip"
            return Instead(run=run.id, state_name="Skipped", message=message)
    return None


def under_way(run: FlowRun, at: datetime) -> bool:
    """Whether it had begun by then and not ended."""
    return run.start_time is not None and run.start_time <= at and (run.end_time is None or run.end_time > at)


def stood_for(run: FlowRun, newest: FlowRun, num: int) -> Instead:
    missed = "another missed one" if num == 1 else f"{num} missed ones"
    message = f"run {newest.name}, due {_at(newest):%Y-%m-%d %H:%M} UTC, stands for {missed}"
    return Instead(run=run.id, state_name="Collapsed", message=message)


def _at(run: FlowRun) -> datetime:
    return run.expected_start_time or datetime.max.replace(tzinfo=UTC)


def due_runs(server: Api, now: datetime, deployment: UUID | None = None) -> list[FlowRun]:
    """Of all deployments of ours, or of one: those by the clock that should have begun by now and have not ended."""
    chosen: dict[str, object] = {
        "flow_runs": {
            "tags": {"all_": ["trainserve"]},
            "expected_start_time": {"before_": now.isoformat()},
            "state": {"type": {"any_": ["SCHEDULED"]}},
        }
    }
    if deployment is not None:
        chosen["deployments"] = {"id": {"any_": [str(deployment)]}}
    return server.flow_runs(chosen, sort="EXPECTED_START_TIME_DESC")


def siblings(server: Api, deployment: UUID) -> list[FlowRun]:
    """Those of this deployment that began last."""
    return _begun(server, {"deployments": {"id": {"any_": [str(deployment)]}}}, {})


def in_the_way(server: Api, runs: Iterable[FlowRun]) -> list[FlowRun]:
    """For those that may be skipped: what began last in their queues. In others much may have begun since, as upkeep
    every hour, and hide a training that takes days."""
    queues = sorted({run.work_queue_name for run in runs if SKIP in run.tags and run.work_queue_name})
    return _begun(server, {}, {"work_queue_name": {"any_": queues}}) if queues else []


def _begun(server: Api, chosen: dict[str, object], more: dict[str, object]) -> list[FlowRun]:
    """What was left out has a start time too."""
    begun = {"start_time": {"is_null_": False}, "state": {"name": {"not_any_": ["Collapsed", "Skipped"]}}}
    return server.flow_runs({**chosen, "flow_runs": {**begun, **more}}, limit=LATEST)


def clear(server: Api) -> list[Instead]:
    """Runs that wait are skipped or collapsed, as the rules say. Raises `Away`."""
    now = datetime.now(UTC)
    waiting = due_runs(server, now)
    if not waiting:
        return []
    return [one for one in decide(waiting, in_the_way(server, waiting), now) if leave_out(server, one)]


def leave_out(server: Api, one: Instead) -> bool:
    """Whether it was still waiting. One that a worker takes in this moment finds out itself when it begins."""
    if not waits(FlowRun.model_validate(server.get(f"flow_runs/{one.run}"))):
        return False
    return server.set_state(one.run, "CANCELLED", one.state_name, one.message)


def left_out(states: Sequence[State]) -> State | None:
    """The state by which a run was left out since it was last scheduled; None: it was not, or is wanted again."""
    for state in sorted(states, key=lambda state: state.timestamp, reverse=True):
        if state.name in ("Collapsed", "Skipped"):
            return state
        if state.type == "SCHEDULED":
            return None
    return None


def instead_of(run: str | None) -> Instead | None:
    """For a flow that is just beginning: its own end, if it need not happen. Others that wait are cleared as well.

    A server that does not answer is no reason not to train.
    """
    server = api.lasting()
    if server is None or run is None:
        return None
    try:
        with server:
            mine, now = FlowRun.model_validate(server.get(f"flow_runs/{run}")), datetime.now(UTC)
            if not by_clock(mine) or mine.deployment_id is None:
                return None
            before = left_out([State.model_validate(one) for one in server.get(f"flow_run_states/?flow_run_id={run}")])
            if before is not None:  # just when a worker took it
                name: Name = "Skipped" if before.name == "Skipped" else "Collapsed"
                return Instead(run=mine.id, state_name=name, message=before.message or "")
            instead = settled(mine, siblings(server, mine.deployment_id), in_the_way(server, [mine]), now)
            if instead is None:
                for one in collapsed_into(mine, due_runs(server, now, mine.deployment_id), now):
                    leave_out(server, one)
            return instead
    except (Away, ValueError):
        return None


def collapsed_into(mine: FlowRun, waiting: Sequence[FlowRun], now: datetime) -> list[Instead]:
    """Those that wait while this one begins."""
    missed = [run for run in waiting if run.id != mine.id and by_clock(run) and waits(run) and _at(run) <= now]
    return [stood_for(run, mine, len(missed)) for run in missed]
