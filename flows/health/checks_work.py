"""The work itself: runs that died, runs that pile up, places without a holder, and what may be deleted."""

from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from flows import due, leases, slots
from flows.api import Api
from flows.deploy.definitions import TAG, worker_name
from flows.health import reaper, tidying
from flows.health.checked import Checked, Checks, Level
from flows.health.processes import Worked
from flows.health.reaper import Change
from flows.health.retention import Keep, Plan

UPKEEP_WITHIN = timedelta(hours=2)


def dead_runs(api: Api, home: Path, now: datetime) -> Checks:
    seen, working = reaper.survey(api, worker_name(home), now)
    changes = reaper.verdicts(seen, now)
    for change in changes:
        level: Level = (
            "note" if change.state == "SCHEDULED" else "wrong"
        )  # what can go on does so by `trainserve deploy`
        yield Checked("run", level, change.sentence, fix=partial(_settle, api, change, working))
    if not changes:
        under_way = sum(one.run.type == "RUNNING" for one in seen)
        yield Checked("runs", "ok", f"{under_way} under way, and none that has died without a word")


def _settle(api: Api, change: Change, working: dict[str, Worked]) -> str:
    done = reaper.carry_out(api, [change], working)
    return change.sentence if done else f"run {change.name} has ended by itself meanwhile"


def missed_runs(api: Api, now: datetime) -> Checks:
    waiting = due.due_runs(api, now)
    instead = due.decide(waiting, due.in_the_way(api, waiting), now) if waiting else []
    if instead:
        said = f"{len(instead)} runs by the clock wait that a newer one stands for"
        yield Checked("missed runs", "note", said, fix=partial(_collapse, api))


def _collapse(api: Api) -> str:
    return f"{len(due.clear(api))} missed runs are collapsed"


def places(api: Api) -> Checks:
    """Counted as taken while the lock of the place is free."""
    counts, taken = leases.counted(api), slots.taken_here()
    for limit in leases.ownerless(counts, taken):
        fix = partial(_free, api, limit)
        yield Checked("place", "wrong", f"{limit} is counted as taken, and nobody trains there", fix=fix)
    if counts:
        yield Checked("places", "ok", f"{len(taken)} of {len(counts)} taken")


def _free(api: Api, limit: str) -> str:
    leases.set_count(api, limit, 0)
    return f"{limit} is counted as free"


def upkeep(api: Api, now: datetime) -> Checks:
    """Whether `maintain` runs, every hour."""
    chosen: dict[str, object] = {
        "deployments": {"name": {"any_": ["maintain"]}, "tags": {"all_": [TAG]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    }
    there = api.post("deployments/filter", {"deployments": chosen["deployments"]})
    if not there:
        yield Checked("upkeep", "note", "no deployment clears up what is old; `trainserve deploy` makes one")
        return
    done = api.flow_runs(chosen, sort="END_TIME_DESC", limit=1)
    last = done[0].end_time if done else None
    since = datetime.fromisoformat(there[0]["created"])
    yield kept_up(last, since, now)


def kept_up(last: datetime | None, since: datetime, now: datetime) -> Checked:
    """`since`: when it was deployed."""
    if now - (last or since) > UPKEEP_WITHIN:
        when = f"{last:%Y-%m-%d %H:%M} UTC" if last else "never"
        return Checked("upkeep", "wrong", f"maintain last ran {when}; keep `trainserve deploy` running")
    return Checked("upkeep", "ok", f"maintain ran at {last:%H:%M} UTC" if last else "maintain runs within the hour")


def old_things(home: Path, api: Api | None) -> Checks:
    """What retention would delete, models left aside: those go by `maintain` alone."""
    planned = tidying.planned(home, kept_by(api), api)
    what = Plan(things=tuple(thing for thing in planned.things if thing.kind != "model"), runs=planned.runs)
    if what.things or what.runs:
        yield Checked("old things", "note", f"may go: {what.sentence}", fix=partial(_tidy, home, what, api))


def kept_by(api: Api | None) -> Keep:
    """As the deployment `maintain` has it, which people change."""
    chosen = {"deployments": {"name": {"any_": ["maintain"]}, "tags": {"all_": [TAG]}}}
    there = [] if api is None else api.post("deployments/filter", chosen)
    return Keep.model_validate(there[0]["parameters"].get("keep") or {}) if there else Keep()


def _tidy(home: Path, what: Plan, api: Api | None) -> str:
    tidying.carry_out(home, what, api)
    return f"deleted: {what.sentence}"
