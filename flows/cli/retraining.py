"""`trainserve retrain`: ask for a training, and say what came of it."""

import time
from datetime import UTC, datetime
from typing import Any

from data.errors import InputError
from flows.cli.deploying import chosen_server
from flows.console import duration
from flows.events import RETRAIN, ask, send

DEPLOYMENT = "train-by-hand"
ANSWER_S = 60.0  # the server takes a second or two from an event to the run, and longer where it is busy
COOLING_S = 5.0  # that no run begins, is waited for as long
LOOK_EVERY_S = 0.5


def retrain(reason: str) -> None:
    """Raises `InputError` where nothing would come of it."""
    api = chosen_server("a request has to reach one that stays")
    if not reason.strip():
        raise InputError("--reason is empty; say in a few words why the model is to be trained again")
    cool_down_s = listening(api)
    before = asked_for(api)
    send(api, RETRAIN, {"reason": reason})
    cooling = bool(before) and age_s(before[0]) < cool_down_s
    until = time.monotonic() + (COOLING_S if cooling else ANSWER_S)
    while time.monotonic() < until:
        latest = asked_for(api)
        if latest and latest[0]["id"] not in {run["id"] for run in before}:
            print(f"run {latest[0]['name']} is to train: {api.removesuffix('/api')}/runs/flow-run/{latest[0]['id']}")
            return
        time.sleep(LOOK_EVERY_S)
    print(not_begun(before, cool_down_s))


def listening(api: str) -> float:
    """The cool-down, in seconds, of the automation that answers. Raises `InputError` if there is none."""
    every = ask(api, "POST", "automations/filter", {})
    found = [one for one in every if RETRAIN in one["trigger"].get("expect", [])]
    if not found:
        raise InputError(
            f"no automation on the server at {api} answers {RETRAIN}; "
            "run `trainserve deploy`, which makes one and carries out what it asks for"
        )
    if not any(one["enabled"] for one in found):
        raise InputError(
            f"the automation {found[0]['name']!r} is switched off; switch it on in the Prefect UI, under Automations"
        )
    return float(found[0]["trigger"]["within"])


def asked_for(api: str) -> list[dict[str, Any]]:
    """Runs that a request began, the newest first."""
    chosen = {"deployments": {"name": {"any_": [DEPLOYMENT]}}, "sort": "START_TIME_DESC", "limit": 50}
    runs: list[dict[str, Any]] = ask(api, "POST", "flow_runs/filter", chosen)
    asked = [run for run in runs if (run["created_by"] or {}).get("type") == "AUTOMATION"]
    return sorted(asked, key=lambda run: str(run["created"]), reverse=True)


def age_s(run: dict[str, Any]) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(str(run["created"]))).total_seconds()


def not_begun(runs: list[dict[str, Any]], cool_down_s: float) -> str:
    """Why, as far as it can be told."""
    if runs and age_s(runs[0]) < cool_down_s:
        return (
            f"no further run: {runs[0]['name']} was asked for {duration(age_s(runs[0]))} ago, and in "
            f"{duration(cool_down_s)} one is begun at most; ask again later, or begin one at once with "
            f"`prefect deployment run pipeline/{DEPLOYMENT}`"
        )
    return f"the server has the request and has begun no run within {ANSWER_S:.0f} s; look under Automations in its UI"
