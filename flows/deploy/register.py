"""The definitions, brought to the Prefect server: what differs is written, what is there already is left alone."""

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

from data.errors import InputError
from flows.api import BUSY, PAUSE_S, TAKEN_S, Away, why
from flows.deploy import automations, notices
from flows.deploy.cron import next_time
from flows.deploy.definitions import POOL, QUEUES, Definition, job_variables

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.responses import DeploymentResponse

T = TypeVar("T")


class Registered(NamedTuple):
    """What the server knows now."""

    full_name: str  # pipeline/train
    id: UUID
    changed: bool
    off: bool = False  # by a person, in the UI; it stays so


def register(
    wanted: Sequence[Definition], *, home: Path, places: int, notify: Sequence[str] = ()
) -> tuple[Registered, ...]:
    """The pool, its queues, every deployment, the automations. `places`: trainings at a time. Raises `InputError`."""
    from prefect.client.orchestration import get_client

    schedules = {one.name: schedules_of(one) for one in wanted}  # before anything is written: a wrong one is refused
    with get_client(sync_client=True) as client:
        patiently(lambda: notices.notify(client, notify))
        patiently(lambda: automations.ensure(client, automations.dead_runs()))
        patiently(lambda: _pool(client))
        patiently(lambda: _queue(client, "light", None))
        patiently(lambda: _queue(client, "training", places))
        return tuple(patiently(partial(_deployment, client, one, schedules[one.name], home=home)) for one in wanted)


def patiently(step: Callable[[], T]) -> T:
    """Again while the server is busy, stands still or is started anew. A busy one refuses every other request, and more
    of the long ones: Prefect's client, which tries five times in half a minute, gives up. Raises `InputError` after
    `TAKEN_S`."""
    import httpx
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    until = time.monotonic() + TAKEN_S
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # its pauses grow to minutes
        while True:
            try:
                return step()
            except Away as error:
                if isinstance(error, httpx.HTTPStatusError) and error.response.status_code != BUSY:
                    raise
                if time.monotonic() > until:
                    raise InputError(
                        f"the Prefect server did not take in {TAKEN_S:.0f} s what is to be registered: {why(error)}; "
                        "try again when less runs there, or give it a PostgreSQL database"
                    ) from None
            time.sleep(random.uniform(*PAUSE_S))


def schedules_of(one: Definition) -> "list[DeploymentScheduleCreate]":
    """Raises `InputError` for what is no cron line, is never due, or names no time zone."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron

    if one.cron is None:
        return []
    try:
        Cron(one.cron, timezone=one.timezone)
        schedule = CronSchedule(cron=one.cron, timezone=one.timezone)
        next_time(one.cron, datetime.now(UTC))
    except ValueError as error:
        raise InputError(
            f"--cron {one.cron!r} in {one.timezone!r} is no schedule: {_first_line(error)}; write such as '0 3 * * *'"
        ) from None
    return [DeploymentScheduleCreate(schedule=schedule, active=True)]


def _first_line(error: ValueError) -> str:
    """Pydantic's complaint without its heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-2] if len(lines) > 2 else lines[0]


def _pool(client: "SyncPrefectClient") -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        found = client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template))
        except ObjectAlreadyExists:  # by another one that begins at the same time
            return
    else:
        if found.type != ProcessWorker.type:
            raise InputError(
                f"the work pool {POOL!r} on this server is of type {found.type!r}, and runs are to be processes of "
                f"this machine; delete it with `prefect work-pool delete {POOL}`, or use `prefect deploy` with it"
            )


def _queue(client: "SyncPrefectClient", name: str, limit: int | None) -> None:
    """The server counts the limit from the states of runs: there is no lease to lose."""
    from prefect.exceptions import ObjectNotFound

    try:
        found = client.read_work_queue_by_name(name, work_pool_name=POOL)
    except ObjectNotFound:
        client.create_work_queue(name, concurrency_limit=limit, priority=QUEUES[name], work_pool_name=POOL)
        return
    if (found.concurrency_limit, found.priority) != (limit, QUEUES[name]):
        client.update_work_queue(found.id, concurrency_limit=limit, priority=QUEUES[name])


def _deployment(
    client: "SyncPrefectClient", one: Definition, schedules: "list[DeploymentScheduleCreate]", home: Path
) -> Registered:
    """Written only where it differs: writing it deletes the runs to come and begins every cool-down anew."""
    from prefect.exceptions import ObjectNotFound

    payload = _payload(one, home)
    version = _digest({**payload, "cron": [one.cron, one.timezone], "triggers": one.triggers})
    full_name = f"{_flow(one).name}/{one.name}"
    found: DeploymentResponse | None = None
    with suppress(ObjectNotFound):
        found = client.read_deployment_by_name(full_name)
    before = [there.active for there in found.schedules] if found else []
    off = found is not None and bool(before) and (found.paused or not any(before))
    if found is not None and found.version == version and _is_whole(client, one, found):
        return Registered(full_name, found.id, changed=False, off=off)
    flow_id = client.create_flow_from_name(_flow(one).name)
    # Over one that is there, this replaces all schedules, also by none. What a person has switched off stays off.
    schedules = [new.model_copy(update={"active": any(before) or not before}) for new in schedules]
    deployment = client.create_deployment(flow_id=flow_id, version=version, schedules=schedules, **payload)
    _triggers(client, one, deployment)
    return Registered(full_name, deployment, changed=True, off=off)


def _is_whole(client: "SyncPrefectClient", one: Definition, found: "DeploymentResponse") -> bool:
    """Whether what belongs to it is there as well: people delete pools, schedules and automations in the UI, and what
    registers may have been killed before it came to them."""
    schedules = [
        (getattr(there.schedule, "cron", None), getattr(there.schedule, "timezone", None)) for there in found.schedules
    ]
    if schedules != ([] if one.cron is None else [(one.cron, one.timezone)]):
        return False
    if (found.work_pool_name, found.work_queue_name) != (POOL, one.queue):
        return False
    wanted = {trigger["name"] for trigger in one.triggers}
    if not wanted:
        return True
    return wanted <= {there.name for there in client.read_resource_related_automations(_owner(found.id))}


def _owner(deployment: UUID) -> str:
    """Of its automations."""
    return f"prefect.deployment.{deployment}"


def _payload(one: Definition, home: Path) -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    return {
        "name": one.name,
        "entrypoint": one.flow,
        "path": None,
        "pull_steps": [],
        "work_pool_name": POOL,
        "work_queue_name": one.queue,
        "job_variables": job_variables(home),
        "parameters": one.parameters,
        "parameter_openapi_schema": parameter_schema(_flow(one)).model_dump(exclude_unset=True),
        "enforce_parameter_schema": True,
        "description": one.description,
        "tags": list(one.tags),
    }


def _triggers(client: "SyncPrefectClient", one: Definition, deployment: UUID) -> None:
    from prefect.events import DeploymentEventTrigger

    client.delete_resource_owned_automations(_owner(deployment))
    for spec in one.triggers:
        trigger = DeploymentEventTrigger.model_validate(spec)
        trigger.set_deployment_id(deployment)
        client.create_automation(trigger.as_automation())


def _flow(one: Definition) -> Any:
    module, _, name = one.flow.rpartition(".")
    return getattr(import_module(module), name)


def _digest(tree: object) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:12]
