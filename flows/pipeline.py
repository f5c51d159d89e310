"""The chain. The body of `chain` is the architecture."""

import signal
from pathlib import Path
from typing import Annotated, cast

from prefect import flow
from prefect.context import TagsContext
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from data.address import WITHOUT_SECRETS
from flows import artifacts, due, engines, logs, server
from flows.console import display
from flows.cross_validate import cross_validate
from flows.devices import require_devices_of
from flows.engines import RunnerConfig
from flows.evaluate import evaluate
from flows.export import export
from flows.lineage import code, since_champion
from flows.outcome import Outcome, outcome_of
from flows.place import writable_home
from flows.prepare import Prepared, opened, prepare
from flows.presets import PRESETS
from flows.release import release, signing_key
from flows.resuming import choose_folder
from flows.reuse.stages import Refresh, made_anew, require_either
from flows.settings import overrides
from flows.stopping import Interrupted
from flows.train import train
from flows.watched import watched
from models.bundle import signature
from models.config import Experiment
from models.records import Lineage
from models.run import RunFolder

Change = Annotated[str, Field(json_schema_extra={"pattern": WITHOUT_SECRETS})]
"""A setting and its value; where that is an address, forms refuse what would be kept with it."""


def run_name() -> str:
    """What the run is called in the UI: the preset's name, `digits, changed` where it is not quite that, `flowers cnn`
    where it is none."""
    given = flow_run.parameters
    experiment = overrides.changed(Experiment.model_validate(given["experiment"]), given.get("changes") or [])
    preset = PRESETS.get(experiment.name)
    if preset is not None and preset != experiment:
        return f"{experiment.name}, changed"
    if experiment.name != "custom":
        return experiment.name
    data = experiment.dataset.name or Path(experiment.dataset.source.rstrip("/")).name.partition(".")[0]
    return f"{data} {experiment.model.kind}"


@flow(name="pipeline", flow_run_name=run_name, persist_result=False, validate_parameters=True)
def pipeline(
    experiment: Experiment = Experiment(),  # noqa: B008 - frozen; the UI's form shows it
    resume: str | None = None,
    changes: list[Change] = [],  # noqa: B006 - never changed; the UI's form shows it
    refresh: tuple[Refresh, ...] = (),
    runner: RunnerConfig = RunnerConfig(),  # noqa: B008
    reason: str | None = None,
) -> Outcome:
    """Pictures to a served model: prepare, cross-validate, train, evaluate, export, release.

    Args:
        experiment: The pictures, the network, the training, and when the result goes into service.
        resume: The name of an unfinished run of these settings to go on with.
        changes: Settings laid over the experiment, as on the command line: `train.epochs=3`.
        refresh: Stages to make anew, with all that rests on them, though an earlier run made the same.
        runner: Where the folds of a cross-validation are computed.
        reason: Why this run was asked for; kept with the model.
    """
    try:
        # The run's tags are not its tasks': those would ask the server for limits of their tags before they begin.
        with watched(flow_run.id), TagsContext(current_tags=set()):
            if (instead := due.instead_of(flow_run.id)) is not None:
                return cast("Outcome", Cancelled(name=instead.state_name, message=instead.message))
            return chain(overrides.changed(experiment, changes), resume, refresh, runner, reason)
    except (KeyboardInterrupt, TerminationSignal) as end:
        number = end.signal if isinstance(end, TerminationSignal) else signal.SIGINT
        stopped = Interrupted(number, display().run_id)
        # Returned, since what is raised here shows as a crash; whoever called the flow has its data raised.
        return cast("Outcome", Cancelled(message=stopped.state_message, data=stopped))


def chain(
    experiment: Experiment,
    resume: str | None,
    refresh: tuple[Refresh, ...] = (),
    runner: RunnerConfig = RunnerConfig(),  # noqa: B008
    reason: str | None = None,
) -> Outcome:
    """All stages, one after the other; each takes over what an earlier run made of the same."""
    require_either(resume, refresh)
    require_devices_of(experiment)
    if key := signing_key():
        signature.require_key(key)
    if experiment.crossval.folds:
        engines.require(runner)
    anew = made_anew(refresh)
    prepared = prepare(experiment.pictures, writable_home(), anew="prepare" in anew)
    run = choose_folder(experiment, prepared.fingerprint, resume=resume, refresh=anew - {"release"})
    display().run_id = run.run_id
    lineage = lineage_of(run, prepared, reason)
    artifacts.leave_data_page(opened(prepared), run, prepared.home)
    with logs.kept_in(run.path / "run.log"):
        crossval = cross_validate(experiment, prepared, run.path, runner) if experiment.crossval.folds else None
        train(experiment, prepared, run.path)
        result = evaluate(prepared, run.path, crossval, lineage)
        bundle = export(prepared, run.path)
        model, verdict = release(prepared, run.path, bundle, experiment.release)
    shown, url = display(), lineage.flow_run_url
    outcome = outcome_of(run, result, model=model, verdict=verdict, seconds=shown.seconds, reused=shown.reused, url=url)
    shown.result = outcome
    return outcome


def lasting_url() -> str | None:
    """Where this run can be looked at; None where the server ends with the command."""
    return None if server.is_ours() else flow_run.ui_url


def lineage_of(run: RunFolder, prepared: Prepared, reason: str | None) -> Lineage:
    made_by, name = code(), opened(prepared).images.snapshot.name
    return Lineage(
        run_id=run.run_id,
        fingerprint=prepared.fingerprint,
        commit=made_by.commit,
        dirty=made_by.dirty,
        flow_run_url=lasting_url(),
        reason=reason,
        data_since=since_champion(name, prepared.fingerprint, prepared.dataset, prepared.home),
    )
