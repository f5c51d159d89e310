"""Messages on failure, refusal, promotion and silence, sent by the server, so that also what died is told of.

Where to, is said by Prefect's blocks: Slack, a webhook, an e-mail (any Apprise address). Their secrets stay with them.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from data.errors import InputError
from flows.deploy.automations import OURS, RUNS, ensure, remove
from flows.deploy.definitions import POOL, TAG
from flows.events import PROMOTED, REFUSED, SILENT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.actions import ActionTypes
    from prefect.events.schemas.automations import AutomationCore

FAILURES = "trainserve: failures are told"
MODELS = "trainserve: promotions and refusals are told"
WORKERS = "trainserve: a worker that is missing is told"

FAILED = ("Failed", "Crashed", "TimedOut")
RUN_SUBJECT = "{{ flow_run.name }}: {{ flow_run.state.name }}"
RUN_BODY = "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
MODEL_SUBJECT = "{{ event.payload.subject }}"
MODEL_BODY = "{{ event.payload.body }}"
BY = "By `trainserve deploy --notify`."
# After the minute and a half in which the server waits for a worker's sign of life. One that lives gives it every half
# minute, and a little later where it was the server that was away. No longer: within this time of one silence Prefect
# does not see another begin.
MISSED_S = 60.0
WORKER_SUBJECT = f"nobody fetches the runs of {POOL}"
WORKER_BODY = "No worker has given a sign of life: scheduled runs wait until `trainserve deploy` runs again."


class Receiver(NamedTuple):
    """A block at the server that can send."""

    id: UUID
    plain: bool  # Prefect's `webhook`, which is given a body and no subject


def notify(client: "SyncPrefectClient", blocks: Sequence[str]) -> None:
    """Have these blocks told, each `type/name`; nobody, if there are none. Raises `InputError`."""
    receivers = [receiver(client, block) for block in blocks]
    if not receivers:
        for name in (FAILURES, MODELS, WORKERS):
            remove(client, name)
        return
    for wanted in (failures(receivers), models(receivers), workers(receivers)):
        ensure(client, wanted)


def receiver(client: "SyncPrefectClient", block: str) -> Receiver:
    """Raises `InputError` for one that is not there, or cannot send."""
    from prefect.exceptions import ObjectNotFound

    kind, _, name = block.partition("/")
    found = None
    if name:
        with suppress(ObjectNotFound):
            found = client.read_block_document_by_name(name, kind, include_secrets=False)
    if found is None:
        there = ", ".join(_senders(client)) or "none; make one in the Prefect UI under Blocks"
        raise InputError(f"--notify {block!r} names no block of this server; those that can send: {there}")
    capabilities = found.block_schema.capabilities if found.block_schema else []
    if "notify" not in capabilities and kind != "webhook":
        raise InputError(f"--notify {block!r} is a block that cannot send; use one such as slack-webhook/NAME")
    return Receiver(found.id, plain="notify" not in capabilities)


def failures(receivers: Sequence[Receiver]) -> "AutomationCore":
    """Once for every run that fails or crashes."""
    return _automation(
        FAILURES,
        {f"prefect.flow-run.{name}" for name in FAILED},
        RUNS,
        OURS,
        [_message(one, RUN_SUBJECT, RUN_BODY) for one in receivers],
    )


def models(receivers: Sequence[Receiver]) -> "AutomationCore":
    """Once for every verdict that changed something, or refused to; and whenever upkeep finds a schedule silent."""
    return _automation(
        MODELS,
        {PROMOTED, REFUSED, SILENT},
        {"prefect.resource.id": "trainserve.model.*"},
        {},
        [_message(one, MODEL_SUBJECT, MODEL_BODY) for one in receivers],
    )


def workers(receivers: Sequence[Receiver]) -> "AutomationCore":
    """Once when the last worker has gone and none comes, as at a restart: upkeep, which would tell, needs one too."""
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=WORKERS,
        description=BY,
        tags=[TAG],
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.work-pool.not-ready"},
            expect={"prefect.work-pool.ready"},
            match={"prefect.resource.id": "prefect.work-pool.*", "prefect.resource.name": POOL},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=MISSED_S),
        ),
        actions=[_message(one, WORKER_SUBJECT, WORKER_BODY) for one in receivers],
    )


def _automation(
    name: str, expect: set[str], match: dict[str, str], related: dict[str, str], actions: "list[ActionTypes]"
) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=name,
        description=BY,
        tags=[TAG],
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect=expect,
            match=match,
            match_related=related,
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=actions,
    )


def _message(to: Receiver, subject: str, body: str) -> "ActionTypes":
    from prefect.events.actions import CallWebhook, SendNotification

    if to.plain:
        return CallWebhook(block_document_id=to.id, payload=f"{subject}\n{body}")
    return SendNotification(block_document_id=to.id, subject=subject, body=body)


def _senders(client: "SyncPrefectClient") -> list[str]:
    """`type/name` of every block that may be given to --notify."""
    return sorted(
        f"{one.block_type.slug}/{one.name}"
        for one in client.read_block_documents(offset=0, limit=200, include_secrets=False)
        if one.name and one.block_type and one.block_schema
        if "notify" in one.block_schema.capabilities or one.block_type.slug == "webhook"
    )
