"""Events of ours at the Prefect server: one asks for a training, others tell what became of a model."""

from contextlib import suppress
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

TIMEOUT_S = 10.0


def ask(api: str, method: str, path: str, tree: Any = None) -> Any:
    """What the server answers. Raises `InputError` where it does not, in a sentence that a person can act on."""
    from flows.api import Api, Away

    try:
        with Api(api, timeout_s=TIMEOUT_S) as asked:
            done = asked.ask(method, path, tree).raise_for_status()
    except Away as error:
        raise InputError(f"the Prefect server at {api} did not take {method} /{path}: {error}") from None
    return done.json() if done.content else None


def send(api: str, name: str, payload: dict[str, str]) -> None:
    """Returns once the server has it: Prefect's own way loses it when a command ends. Raises `InputError`."""
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "id": str(uuid4()),
        "payload": payload,
        "related": [],
        "resource": {"prefect.resource.id": "trainserve.service", "prefect.resource.name": "trainserve"},
    }
    ask(api, "POST", "events", [event])


def tell(event: str, model: str, /, **payload: str) -> None:
    """From within a run, in the background. That nobody hears of it is no reason to fail."""
    if server.is_ours():
        return
    with suppress(Exception):
        from prefect.events import emit_event

        resource = {"prefect.resource.id": f"trainserve.model.{model}", "prefect.resource.name": model}
        emit_event(event, resource=resource, payload=dict(payload))
