"""The flow that keeps months of nights from piling up: every hour, by the clock."""

from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows import api, due, events
from flows.api import Api
from flows.artifacts import harmless
from flows.deploy.definitions import POOL, worker_name
from flows.health import checks_server, reaper, tidying
from flows.health.retention import Keep, Plan
from flows.place import writable_home
from flows.watched import watched

ANSWER_S = 60.0  # to delete runs with all their logs takes a server of many runs some seconds
TOLD_AGAIN = timedelta(hours=23, minutes=30)  # every 24th time


@flow(name="maintain", persist_result=False, validate_parameters=True)
def maintain(keep: Keep = Keep()) -> str:  # noqa: B008 - frozen; the UI's form shows it
    """Mark what has died, collapse what was missed, delete what is old.

    Args:
        keep: How much of the past stays: flow runs, run folders, models, caches, logs.
    """
    server = api.lasting(timeout_s=ANSWER_S, busy_s=api.TAKEN_S, away_s=api.TAKEN_S)
    if server is None:
        return tidy(None, keep)
    with watched(flow_run.id), server:
        home, now = writable_home(), datetime.now(UTC)
        for change in reaper.reap(server, worker_name(home)):
            get_run_logger().warning("%s", change.sentence)
        for instead in due.clear(server):
            get_run_logger().info("%s: %s", instead.state_name, instead.message)
        said = tidy(server, keep)
        tidying.remove_idle_workers(server, POOL, now)
        raise_alarm(server, now)
        return said


def tidy(server: Api | None, keep: Keep) -> str:
    """What was deleted, in a sentence."""
    home = writable_home()
    what = tidying.planned(home, keep, server)
    tidying.carry_out(home, what, server)
    said = f"deleted: {what.sentence}"
    get_run_logger().info("%s", said)
    show(what, keep)
    return said


def raise_alarm(server: Api, now: datetime) -> None:
    """As an event, which `--notify` makes a message of: the schedule itself would never say that it is silent."""
    silent = [found.message for found in checks_server.schedules(server, now) if found.level == "wrong"]
    told = bool(silent) and told_lately(server, now)
    for message in silent:
        get_run_logger().warning("schedule: %s", message)
        if not told:
            events.tell(events.SILENT, "schedule", subject="a schedule is silent", body=message)


def told_lately(server: Api, now: datetime) -> bool:
    """Once a day is enough, where somebody has switched it off for a while."""
    chosen = {"event": {"name": [events.SILENT]}, "occurred": {"since": (now - TOLD_AGAIN).isoformat()}}
    return bool(server.post("events/filter", {"filter": chosen, "limit": 1})["events"])


@harmless
def show(what: Plan, keep: Keep) -> None:
    rows = [
        f"| {thing.kind} | `{thing.name}` | {thing.used:%Y-%m-%d} | {thing.bytes / 1e6:,.1f} |" for thing in what.things
    ]
    table = ["| | | last used | MB |", "|---|---|---|---:|", *rows] if rows else []
    kept = ", ".join(f"{name} {value:g}" for name, value in keep.model_dump().items())
    page = "\n".join([f"Deleted: {what.sentence}.", "", *table, "", f"Kept: {kept}."])
    create_markdown_artifact(page, key="upkeep", description=f"Deleted: {what.sentence}")
