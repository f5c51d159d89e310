"""The Prefect server: does it answer, does it keep time, who works for it, what is scheduled, what it keeps."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from flows import due as missed
from flows.api import MOST, Api
from flows.deploy.automations import DEAD_RUNS
from flows.deploy.cron import next_time
from flows.deploy.definitions import POOL, QUEUES, TAG
from flows.health.checked import Checked, Checks
from flows.health.checks_machine import numbers

POLLED_WITHIN = timedelta(seconds=60)  # a worker asks every two
LATE_MEANS = timedelta(minutes=5)  # one that waits as long while nothing runs
LOOKS_AHEAD = timedelta(days=98)  # the scheduler, 100 of them; in any time zone
SLOW_CLOCK_S, WRONG_CLOCK_S = 5.0, 30.0  # of heartbeats and leases, the second is half
DEPLOY = "run `trainserve deploy`, and keep it running"


def server_version(api: Api, client: str) -> Checks:
    """Of the server, beside that of this installation."""
    there = str(api.get("admin/version"))
    if numbers(there)[:2] == numbers(client)[:2]:
        yield Checked("server", "ok", f"Prefect {there}")
    else:
        yield Checked("server", "wrong", f"Prefect {there}, and {client} here; install the same on both")


def clock(api: Api) -> Checks:
    before = datetime.now(UTC)
    answer = api.ask("GET", "health")
    ours = before + (datetime.now(UTC) - before) / 2
    if "date" in answer.headers:
        yield told_time(parsedate_to_datetime(answer.headers["date"]), ours)


def told_time(theirs: datetime, ours: datetime) -> Checked:
    """The server tells whole seconds."""
    apart = abs((theirs - ours).total_seconds())
    said = f"{apart:.0f} s apart from the server's"
    if apart > WRONG_CLOCK_S:
        return Checked("clock", "wrong", f"{said}: living runs would be taken for dead; set both by NTP")
    if apart > SLOW_CLOCK_S:
        return Checked("clock", "note", f"{said}; set both by NTP")
    return Checked("clock", "ok", said)


def workers(api: Api, now: datetime) -> Checks:
    answer = api.ask("GET", f"work_pools/{POOL}")
    if answer.status_code == 404:
        yield Checked("worker", "note", "nothing is deployed; `trainserve deploy` makes the deployments and runs them")
        return
    answer.raise_for_status()
    if answer.json()["is_paused"]:
        yield Checked("work pool", "wrong", f"{POOL} is paused, so no run begins", fix=partial(_resume_pool, api))
    there = api.post(f"work_pools/{POOL}/workers/filter", {"limit": MOST})
    worker = alive(there, now)
    yield worker
    for queue in api.post(f"work_pools/{POOL}/queues/filter", {"limit": MOST}):
        if queue["is_paused"]:
            fix = partial(_resume_queue, api, queue["name"])
            yield Checked("queue", "wrong", f"{queue['name']} is paused, so its runs wait", fix=fix)
        elif worker.level == "ok" and queue["name"] in QUEUES:
            yield from polled(queue, now)


def alive(there: Sequence[dict[str, Any]], now: datetime) -> Checked:
    """Whether one of these workers asks for runs."""
    online = [one for one in there if one["status"] == "ONLINE"]
    if not online:
        last = max((one["last_heartbeat_time"] for one in there), default=None)
        ago = f"; the last was here {_ago(now - datetime.fromisoformat(last))} ago" if last else ""
        return Checked("worker", "wrong", f"none is alive{ago}: {DEPLOY}")
    latest = max(online, key=lambda one: str(one["last_heartbeat_time"]))
    silent = now - datetime.fromisoformat(latest["last_heartbeat_time"])
    return Checked("worker", "ok", f"{latest['name']} gave a sign of life {_ago(silent)} ago")


def polled(queue: dict[str, Any], now: datetime) -> Checks:
    """A worker may give signs of life and fetch no runs, as one that is about to end."""
    silent = now - datetime.fromisoformat(queue["last_polled"] or queue["created"])
    if silent > POLLED_WITHIN:
        said = f"nobody has asked for the runs of {queue['name']} for {_ago(silent)}"
        yield Checked("queue", "wrong", f"{said}: stop `trainserve deploy` and start it again")


def schedules(api: Api, now: datetime) -> Checks:
    """Of each deployment that has one: active, the only one, and when it is due."""
    chosen = {"deployments": {"tags": {"all_": [TAG]}}, "limit": MOST}
    deployments = api.post("deployments/filter", chosen)
    under_way = {"tags": {"all_": [TAG]}, "state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    busy = {run.work_queue_name for run in api.flow_runs({"flow_runs": under_way})}  # upkeep, which asks, is in its own
    for one in deployments:
        mine = {"deployments": {"id": {"any_": [one["id"]]}}}
        coming = api.flow_runs(
            {**mine, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}, sort="NEXT_SCHEDULED_START_TIME_ASC"
        )
        waits = [run.expected_start_time for run in coming if missed.by_clock(run) and missed.waits(run)]
        due = sorted(at for at in waits if at is not None)
        yield from scheduled(api, one, due, now, running=one["work_queue_name"] in busy)
    if deployments and not any(one["schedules"] for one in deployments if one["name"] == "train"):
        yield Checked("schedule", "note", "train runs on demand; `trainserve deploy --cron` has it run by the clock")


def scheduled(api: Api, one: dict[str, Any], due: Sequence[datetime], now: datetime, *, running: bool) -> Checks:
    """`due`: when its runs that have not begun should begin, the earliest first."""
    name, there = one["name"], one["schedules"]
    if not there:
        return
    if one["paused"]:
        fix = partial(_resume_deployment, api, one["id"], name)
        yield Checked("schedule", "wrong", f"{name} is paused, so nothing is due", fix=fix)
        return
    if len(there) > 1:
        fix = partial(_delete_schedules, api, one["id"], [schedule["id"] for schedule in there[1:]])
        yield Checked("schedule", "wrong", f"{name} has {len(there)} schedules, so it runs more often", fix=fix)
    if not there[0]["active"]:
        fix = partial(_activate, api, one["id"], there[0]["id"], name)
        yield Checked("schedule", "wrong", f"that of {name} is switched off", fix=fix)
        return
    when = there[0]["schedule"].get("cron") or "by the clock"
    if due and due[0] < now - LATE_MEANS and not running:
        yield Checked(
            "schedule", "wrong", f"{name} was due {_ago(now - due[0])} ago and waits while nothing runs: {DEPLOY}"
        )
    elif coming := [at for at in due if at >= now]:
        yield Checked("schedule", "ok", f"{name} ({when}) is due next at {coming[0]:%Y-%m-%d %H:%M} UTC")
    elif far(when, now):
        yield Checked("schedule", "ok", f"{name} ({when}) is due in more than three months")
    else:
        yield Checked(
            "schedule",
            "wrong",
            f"{name} ({when}) has no next time: restart the Prefect server, whose scheduler makes it",
        )


def far(cron: str, now: datetime) -> bool:
    """Beyond the days that Prefect's scheduler looks ahead. What is not bound to a day or a month never is."""
    if cron.split()[2:4] in (["*", "*"], []):
        return False
    try:
        return next_time(cron, now) > now + LOOKS_AHEAD
    except ValueError:  # no cron line, or never
        return False


def automation(api: Api, now: datetime) -> Checks:
    """The one that marks dead runs."""
    found = [one for one in api.post("automations/filter", {"limit": MOST}) if one["name"] == DEAD_RUNS]
    if len(found) != 1:
        said = "is missing" if not found else f"is there {len(found)} times"
        yield Checked("automation", "wrong", f"the one that marks dead runs {said}", fix=ensure_automation)
    elif not found[0]["enabled"]:
        yield Checked("automation", "wrong", "the one that marks dead runs is switched off", fix=ensure_automation)
    else:
        yield Checked("automation", "ok", "runs that give no sign of life are marked")
    since = (now - timedelta(days=1)).isoformat()
    failed = {"event": {"name": ["prefect.automation.action.failed"]}, "occurred": {"since": since}}
    events = api.post("events/filter", {"filter": failed, "limit": 1})
    if events["total"]:
        why = str(events["events"][0]["payload"].get("reason") or "no reason given")
        yield Checked("automation", "note", f"{events['total']} actions failed within a day, the last: {why[:200]}")


def ensure_automation() -> str:
    from prefect.client.orchestration import get_client  # seconds, and only where something is mended

    from flows.deploy import automations
    from flows.deploy.register import patiently

    with get_client(sync_client=True) as client:
        patiently(lambda: automations.ensure(client, automations.dead_runs()))
    return "the automation that marks dead runs is there and switched on"


def _resume_pool(api: Api) -> str:
    api.patch(f"work_pools/{POOL}", {"is_paused": False})
    return f"the work pool {POOL} goes on"


def _resume_queue(api: Api, name: str) -> str:
    api.patch(f"work_pools/{POOL}/queues/{name}", {"is_paused": False})
    return f"the queue {name} goes on"


def _resume_deployment(api: Api, identity: str, name: str) -> str:
    api.post(f"deployments/{identity}/resume_deployment", {})
    return f"{name} is due again"


def _activate(api: Api, deployment: str, schedule: str, name: str) -> str:
    api.patch(f"deployments/{deployment}/schedules/{schedule}", {"active": True})
    return f"the schedule of {name} is switched on"


def _delete_schedules(api: Api, deployment: str, doubles: Sequence[str]) -> str:
    for schedule in doubles:
        api.delete(f"deployments/{deployment}/schedules/{schedule}")
    return f"{len(doubles)} schedules too many are gone"


def _ago(span: timedelta) -> str:
    from flows.console import duration

    return duration(max(span.total_seconds(), 0.0))
