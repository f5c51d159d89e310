"""The pipeline as a deployment: run by the clock, from the UI, or by one HTTP request."""

import os
import sys
import time
from typing import TYPE_CHECKING

from data import catalog
from data.catalog import Archive, Folder
from data.errors import InputError
from flows import logs, resuming, server
from flows.place import writable_home
from models.config import Experiment

if TYPE_CHECKING:
    from prefect.schedules import Schedule

NAME = "train"


def serve_pipeline(experiment: Experiment, *, cron: str | None, timezone: str) -> None:
    """Register `pipeline/train` and run what is asked of it, until Ctrl-C. Raises `InputError`.

    The schedule is off unless `cron` is given. One run at a time; one that comes due meanwhile waits.
    """
    api = server.configured()
    if api is None:
        raise InputError(
            "no Prefect server is chosen, and a schedule needs one that stays; "
            "run `prefect server start` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    os.environ["PREFECT_API_URL"] = api
    server.quiet_environment()
    server.require_answer(api)
    logs.quiet_terminal()
    os.environ["TRAINSERVE_HOME"] = str(writable_home())  # its runs are processes of their own, started elsewhere
    experiment = anchored(experiment)
    from flows.pipeline import pipeline

    schedule = None if cron is None else _schedule(cron, timezone)
    when = f"runs at {cron!r} ({timezone})" if cron else "runs on demand"
    print(
        f"pipeline/{NAME} {when} and trains on {experiment.dataset.source}; "
        f"start one with: prefect deployment run pipeline/{NAME}",
        flush=True,
    )
    began = time.time()
    try:
        pipeline.serve(
            name=NAME,
            schedule=schedule,
            parameters={"experiment": experiment.model_dump(mode="json")},
            description="Pictures to a served model: prepare, cross-validate, train, evaluate, export, release.",
            tags=["trainserve"],
            limit=1,
            print_starting_message=False,
        )
    finally:  # Prefect takes Ctrl-C for an end in order, and SIGTERM for SystemExit
        tell_unfinished(began)


def tell_unfinished(began: float) -> None:
    """What is left of the runs since then, and how to go on."""
    for folder in resuming.left_since(began):
        print(
            f"run {folder.run_id} is unfinished; `trainserve run --resume {folder.run_id}` goes on with it, "
            "and so does the next run of this deployment",
            file=sys.stderr,
        )


def anchored(experiment: Experiment) -> Experiment:
    """With the full path of its folder or archive. Raises `SourceError` if there is none."""
    source = catalog.parse_source(experiment.dataset.source)
    if not isinstance(source, Folder | Archive):
        return experiment
    tree = experiment.model_dump()
    tree["dataset"]["source"] = str(source.path.resolve())
    return Experiment.model_validate(tree)


def _schedule(cron: str, timezone: str) -> "Schedule":
    from prefect.schedules import Cron

    try:
        return Cron(cron, timezone=timezone)
    except ValueError as error:
        raise InputError(
            f"--cron {cron!r} in {timezone!r} is no schedule: {error}; write such as '0 3 * * *'"
        ) from None
