"""Automations of ours at the Prefect server, each known by its name: what a dead process cannot do for itself."""

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

from flows.deploy.definitions import TAG

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

DEAD_RUNS = "trainserve: runs without a sign of life"
SILENT_S = 90.0  # three of a run's signs of life, one each 30 s

# After one of these nothing more is expected of a run. By name: a pattern would take Cancelling for a sign of life.
ENDS = (
    "Completed",
    "Failed",
    "Crashed",
    "Cancelled",
    "TimedOut",
    "Skipped",
    "Collapsed",
    "AwaitingRetry",
    "Paused",
    "Suspended",
)

RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
OURS = {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}


def dead_runs(silent_s: float = SILENT_S) -> "AutomationCore":
    """Marks a run as crashed that has given no sign of life, whether or not any worker lives."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=DEAD_RUNS,
        description="The process of a run gives a sign of life every 30 s. A run without one is marked as crashed.",
        tags=[TAG],
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{name}" for name in ENDS)},
            match=RUNS,
            match_related=OURS,
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=silent_s),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"No sign of life for {silent_s:.0f} s: its process has ended, or its machine is away",
                force=False,  # such an automation also fires for runs that have just ended: those stay as they are
            )
        ],
    )


def ensure(client: "SyncPrefectClient", wanted: "AutomationCore") -> bool:
    """As wanted, and switched on; true if it had to be written. Of several with the name the newest stays."""
    stamped = wanted.model_copy(update={"description": f"{wanted.description} ({digest(wanted)})"})
    found = client.read_automations_by_name(wanted.name)
    for other in found[1:]:
        client.delete_automation(other.id)
    if not found:
        client.create_automation(stamped)
    elif found[0].description != stamped.description:
        client.delete_automation(found[0].id)
        client.create_automation(stamped)
    elif not found[0].enabled:
        client.resume_automation(found[0].id)
    else:
        return False
    return True


def remove(client: "SyncPrefectClient", name: str) -> bool:
    """Whether there was one."""
    found = client.read_automations_by_name(name)
    for one in found:
        client.delete_automation(one.id)
    return bool(found)


def digest(wanted: "AutomationCore") -> str:
    """Of what it does; the server stores it with ids and defaults of its own, which cannot be compared."""
    kept = {key: value for key, value in wanted.model_dump(mode="json").items() if key != "description"}
    return hashlib.sha256(repr(_sorted(kept)).encode()).hexdigest()[:12]


def _sorted(tree: object) -> object:
    """Sets have no order of their own."""
    if isinstance(tree, dict):
        return sorted((key, _sorted(value)) for key, value in tree.items() if key != "id")
    if isinstance(tree, list):
        return sorted((_sorted(value) for value in tree), key=repr)
    return tree
