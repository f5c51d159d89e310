"""Settings tried one after the other or beside each other, and the best of them: the flow."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TagsContext
from prefect.runtime import flow_run
from pydantic import Field

from data.errors import InputError
from data.spec import Frozen
from flows import artifacts, engines, logs
from flows.cancelled import cancelled_by_signals
from flows.console import display
from flows.devices import require_devices_of
from flows.engines import RunnerConfig
from flows.place import writable_home
from flows.prepare import Prepared, prepare
from flows.stopping import stoppable
from flows.sweep.result import SweepResult, rows
from flows.sweep.search import MOST_TRIALS, Space, parsed, require_optuna
from flows.watched import watched
from models.claims import claim
from models.config import Experiment
from models.run import subject_of

FOLDER = "sweeps"  # beside `runs` in the home folder


class SweepConfig(Frozen):
    """How settings are tried. Which sweep it is, so that the same one goes on, the experiment and the search decide."""

    trials: int = Field(
        30,
        ge=1,
        le=MOST_TRIALS,
        title="Trials",
        description="in all, those given up early included; more go on with it",
    )
    prune: bool = Field(
        True, title="Give up early", description="a trial whose curve runs below the median of those before it"
    )


def run_name() -> str:
    """Such as `flowers cnn: lr, width`."""
    experiment = Experiment.model_validate(flow_run.parameters["experiment"])
    return f"{subject_of(experiment)} {experiment.model.kind}: {', '.join(flow_run.parameters['search'])}"


@flow(name="sweep", flow_run_name=run_name, persist_result=False, validate_parameters=True)
def sweep(
    experiment: Experiment = Experiment(),  # noqa: B008 - frozen; the UI's form shows it
    search: dict[str, str] = {"optimizer.lr": "3e-4..3e-2:log"},  # noqa: B006 - never changed
    config: SweepConfig = SweepConfig(),  # noqa: B008
    runner: RunnerConfig = RunnerConfig(),  # noqa: B008
) -> SweepResult:
    """The settings that do best on the validation pictures; the test pictures are not looked at.

    Args:
        experiment: What all trials have alike.
        search: A range (1e-4..1e-2:log) or choices (cnn,vit) for each field.
        config: How many trials, and whether bad ones are given up early.
        runner: Where trials are computed.
    """
    with watched(flow_run.id), TagsContext(current_tags=set()):  # as in `flows.pipeline`
        return cancelled_by_signals(
            lambda: searched(experiment, search, config, runner), going_on="the same sweep goes on with what was tried"
        )


def searched(experiment: Experiment, search: dict[str, str], config: SweepConfig, runner: RunnerConfig) -> SweepResult:
    """Raises `InputError`, or `RunFailed` where trial after trial fails."""
    space = parsed(search, experiment)
    require_optuna()
    require_devices_of(experiment)
    engines.require(runner)
    prepared = prepare(experiment.pictures, writable_home())
    folder = claimed(prepared.home, experiment, space, prepared.fingerprint)
    with logs.kept_in(folder / "sweep.log"):
        result: SweepResult = trials(experiment, space, config, runner, prepared, folder)
    display().result = result
    return result


def claimed(home: Path, experiment: Experiment, space: Space, fingerprint: str) -> Path:
    """The folder of this sweep, which other settings, another search or other pictures do not share. Raises
    `InputError` where another process works in it."""
    decides = [experiment.model_dump_json(), json.dumps([one.model_dump() for one in space]), fingerprint]
    digest = hashlib.sha256("\n".join(decides).encode()).hexdigest()
    folder = home / FOLDER / f"{subject_of(experiment)}-{digest[:6]}"
    folder.mkdir(parents=True, exist_ok=True)
    if not claim(folder):
        raise InputError(f"sweep {folder.name} is under way in another process; wait for it, or stop that one first")
    return folder


@task(name="trials", task_run_name="trials", cache_policy=NO_CACHE, persist_result=False)
def trials(
    experiment: Experiment, space: Space, config: SweepConfig, runner: RunnerConfig, prepared: Prepared, folder: Path
) -> SweepResult:
    """Each is a task of its own. What was found so far is shown also where this is stopped."""
    import torch  # as a trial in this process would be, so that the same sums come out

    from flows.sweep.plots import importance, parallel
    from flows.sweep.trying import Trying
    from models.device import choose_device

    kind = "cpu" if choose_device(experiment.train.devices).type == "cpu" else "gpu"
    with display().stage("sweep"), artifacts.progress("sweep-progress") as bar:
        trying = Trying(experiment, space, config, runner, prepared, folder, kind, bar)
        threads, gpus = torch.get_num_threads(), torch.cuda.device_count()

        def work(stop: Callable[[], bool]) -> None:
            trying.all(stop, threads=threads, gpus=gpus)

        try:
            stoppable(work, on_stop=trying.stopping)
            trying.offer_best()
        finally:
            result = trying.result()
            display().say(result.sentence)
            show(result, trying.study.importances, partial(parallel, result, space), importance)
    return result


def show(
    result: SweepResult,
    importances: Callable[[], dict[str, float]],
    lines: Callable[[], bytes],
    bars: Callable[[dict[str, float]], bytes],
) -> None:
    """In the UI."""
    artifacts.show_sweep(rows(result), result.sentence, result.command)
    if any(trial.value is not None for trial in result.trials):
        artifacts.show_picture("sweep-parallel", "Settings and what came of them", lines)
    if sum(trial.state == "complete" for trial in result.trials) > 1:
        artifacts.show_picture("sweep-importance", "How much each field matters", lambda: bars(importances()))
