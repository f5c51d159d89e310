"""Events of ours at the Prefect server: one asks for a training, others tell what became of a model."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from data.errors import InputError
from flows import server

RETRAIN = "trainserve.retrain.requested"
PROMOTED = "trainserve.model.promoted"
REFUSED = "trainserve.model.refused"
SILENT = "trainserve.schedule.silent"
"""A schedule that should be active has nothing due, or something waits while nothing runs."""

SERVICE = {"prefect.resource.id": "trainserve.service", "prefect.resource.name": "trainserve"}

logger = logging.getLogger("trainserve.events")


def ask(api: str, method: str, path: str, tree: Any = None) -> Any:
    """What the server answers, which may be busy for a while, or away. Raises `InputError` where it does not answer, in
    a sentence that a person can act on."""
    from flows.api import TAKEN_S, Api, Away, why

    try:
        with Api(api, timeout_s=server.STALLED_S, busy_s=TAKEN_S, away_s=TAKEN_S) as asked:
            done = asked.ask(method, path, tree).raise_for_status()
    except Away as error:
        raise InputError(f"the Prefect server at {api} did not take {method} /{path}: {why(error)}") from None
    return done.json() if done.content else None


def send(
    api: str,
    name: str,
    payload: Mapping[str, str],
    *,
    of: Mapping[str, str] = SERVICE,
    related: Sequence[Mapping[str, str]] = (),
) -> None:
    """Returns once the server has it: Prefect's own way loses it where the server is away for half a minute, and when a
    command ends. Raises `InputError`."""
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "id": str(uuid4()),
        "payload": dict(payload),
        "related": [dict(one) for one in related],
        "resource": dict(of),
    }
    ask(api, "POST", "events", [event])


def tell(event: str, model: str, /, **payload: str) -> None:
    """From within a run. That nobody hears of it is no reason to fail."""
    api = server.configured()
    if api is None or server.is_ours():
        return
    from prefect.runtime import flow_run

    resource = {"prefect.resource.id": f"trainserve.model.{model}", "prefect.resource.name": model}
    related = [{"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"}]
    try:
        send(api, event, payload, of=resource, related=related if flow_run.id else [])
    except Exception as error:  # noqa: BLE001 - whatever it is, the model is in service, or refused
        logger.warning("%s is told to nobody: %s", event, error)
