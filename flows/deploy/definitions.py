"""Every deployment, as values: registering them and `prefect.yaml` read the same ones. No Prefect here."""

import hashlib
import shlex
import socket
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from data.sources.kinds import SHARDS, Local, Shards, parse_source
from data.spec import Frozen
from flows.events import RETRAIN
from models.config import CrossvalConfig, Experiment

ROOT = Path(__file__).parents[2]  # the checkout: where `flows` is imported from

POOL = "trainserve"
TAG = "trainserve"  # of every run: automations and the commands find them by it
QUEUES = {"light": 1, "training": 2}  # queue -> priority; what is light never waits for a training

Queue = Literal["training", "light"]
Busy = Literal["wait", "skip"]

COOL_DOWN_S = 1800
FOLDS = 5


class OnEvent(Frozen):
    """The first such event starts a run; those that follow within the cool-down do not."""

    event: str
    cool_down_s: float
    parameters: dict[str, JsonValue]

    def as_trigger(self, deployment: str) -> dict[str, JsonValue]:
        """As `prefect.yaml` has it, and Prefect's `DeploymentEventTrigger`."""
        return {
            "type": "event",
            "name": f"trainserve: {deployment} on {self.event}",
            "enabled": True,
            "posture": "Reactive",
            "match": {"prefect.resource.id": "trainserve.*"},
            "expect": [self.event],
            "threshold": 1,
            "within": self.cool_down_s,
            "parameters": self.parameters,
        }


class Definition(Frozen):
    """One deployment."""

    name: str
    flow: str  # "flows.pipeline.pipeline": imported where it runs, so nothing is pulled or copied
    queue: Queue
    description: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    cron: str | None = None
    timezone: str = "UTC"
    on_event: OnEvent | None = None
    tags: tuple[str, ...] = (TAG,)

    @property
    def triggers(self) -> list[dict[str, JsonValue]]:
        return [] if self.on_event is None else [self.on_event.as_trigger(self.name)]


UPKEEP = (
    Definition(
        name="release",
        flow="flows.releasing.release_stored",
        queue="light",
        description="Judge a stored model again and promote it.",
    ),
    Definition(
        name="maintain",
        flow="flows.maintain.maintain",
        queue="light",
        description="Clear up, every hour.",
        cron="17 * * * *",
    ),
)


def definitions(
    experiment: Experiment,
    *,
    cron: str | None = None,
    timezone: str = "UTC",
    when_busy: Busy = "wait",
    cool_down_s: float = COOL_DOWN_S,
) -> tuple[Definition, ...]:
    """All of them. What runs by the clock is `train`, if `cron` is given, and what looks after the rest."""
    settings: dict[str, JsonValue] = {"experiment": experiment.model_dump(mode="json")}
    asked = OnEvent(event=RETRAIN, cool_down_s=cool_down_s, parameters={"reason": "{{ event.payload.reason }}"})
    chain = "Pictures to a served model: prepare, cross-validate, train, evaluate, export, release."
    return (
        Definition(
            name="train",
            flow="flows.pipeline.pipeline",
            queue="training",
            description=f"{chain} By the clock.",
            parameters=settings,
            cron=cron,
            timezone=timezone,
            tags=(TAG, f"when-busy:{when_busy}"),
        ),
        Definition(
            name="train-by-hand",
            flow="flows.pipeline.pipeline",
            queue="training",
            description=f"{chain} By hand, or by `trainserve retrain`.",
            parameters=settings,
            on_event=asked,
        ),
        *studies(experiment),
        *UPKEEP,
    )


def studies(experiment: Experiment) -> tuple[Definition, ...]:
    """What trains and releases nothing."""
    return (
        Definition(
            name="cross-validate",
            flow="flows.cross_validation.cross_validation",
            queue="training",
            description="How much the accuracy depends on which pictures were trained on. Nothing is released.",
            parameters={"experiment": folded(experiment).model_dump(mode="json")},
        ),
        Definition(
            name="sweep",
            flow="flows.sweep.flow.sweep",
            queue="training",
            description="Settings tried by Optuna: which do best on the validation pictures. Nothing is released.",
            parameters={"experiment": experiment.model_dump(mode="json")},
        ),
    )


def folded(experiment: Experiment) -> Experiment:
    """With folds: where none are asked for, `FOLDS`."""
    if experiment.crossval.folds:
        return experiment
    return experiment.model_copy(update={"crossval": CrossvalConfig(folds=FOLDS)})


def job_variables(home: Path) -> dict[str, JsonValue]:
    """How a worker on this machine starts a run. With a command of ours Prefect neither copies nor imports the code."""
    return {
        "command": f"{shlex.quote(sys.executable)} -m flows.deploy.engine",
        "working_dir": str(ROOT),
        "stream_output": False,  # the run's log has it
        "env": {"TRAINSERVE_HOME": str(home)},
    }


def worker_name(home: Path) -> str:
    """The same after every start, so that the server shows one worker, and runs can be told to be this home's."""
    return f"{socket.gethostname()}-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"


def anchored(experiment: Experiment) -> Experiment:
    """With the full paths of its folders, archives and listings. Raises `SourceError` if there is none."""
    tree = experiment.model_dump()
    tree["dataset"]["source"] = _anchored(experiment.dataset.source)
    tree["dataset"]["more"] = tuple(map(_anchored, experiment.dataset.more))
    return Experiment.model_validate(tree)


def _anchored(text: str) -> str:
    source = parse_source(text)
    if isinstance(source, Shards) and "://" not in source.place:
        return f"{SHARDS}{Path(source.place).resolve()}"
    return str(source.path.resolve()) if isinstance(source, Local) else text
