"""Cross-validation by itself, as a deployment: nothing is released."""

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from data.errors import InputError
from flows import engines, logs
from flows.cancelled import cancelled_by_signals
from flows.console import display
from flows.cross_validate import cross_validate
from flows.deploy.definitions import folded
from flows.devices import require_devices_of
from flows.engines import RunnerConfig
from flows.place import writable_home
from flows.prepare import prepare
from flows.resuming import choose_folder
from flows.watched import watched
from models.config import Experiment
from models.records import CVResult


def run_name() -> str:
    """Such as `flowers cnn, 5 folds`."""
    experiment = Experiment.model_validate(flow_run.parameters["experiment"])
    data = experiment.dataset.name or Path(experiment.dataset.source.rstrip("/")).name.partition(".")[0]
    return f"{data} {experiment.model.kind}, {experiment.crossval.folds} folds"


@flow(name="cross-validation", flow_run_name=run_name, persist_result=False, validate_parameters=True)
def cross_validation(
    experiment: Experiment = folded(Experiment()),  # noqa: B008 - frozen; the form shows it
    runner: RunnerConfig = RunnerConfig(),  # noqa: B008
) -> CVResult:
    """How much the accuracy depends on which pictures were trained on. The folds are kept in a run folder: a training
    of the same settings finds them there.

    Args:
        experiment: The pictures, the network, the training; crossval.folds at least 2.
        runner: Where the folds are computed.
    """
    with watched(flow_run.id):
        return cancelled_by_signals(
            lambda: validated(experiment, runner), going_on="the next cross-validation of these settings goes on"
        )


def validated(experiment: Experiment, runner: RunnerConfig) -> CVResult:
    """Raises `InputError`, or whatever went wrong in a fold."""
    if not experiment.crossval.folds:
        raise InputError("crossval.folds is 0, so there is nothing to do; give at least 2")
    require_devices_of(experiment)
    engines.require(runner)
    prepared = prepare(experiment.pictures, writable_home())
    run = choose_folder(experiment, prepared.fingerprint, resume=None)
    display().run_id = run.run_id
    with logs.kept_in(run.path / "run.log"):
        return cross_validate(experiment, prepared, run.path, runner)
