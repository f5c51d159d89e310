"""What `trainserve run` does first: its Prefect server, which takes longest, starts before all else is imported.

Nothing at the top of this file takes time to import.
"""

import signal
import warnings

from data.errors import InputError
from flows import engines, logs, server, stopping
from flows.devices import require_devices_of
from flows.engines import RunnerConfig
from flows.patience import WATCHED_RETRIES
from flows.place import home, writable_home
from flows.reuse.stages import Refresh
from models.config import Experiment
from models.training.allocation import keep_freed_memory


def run(
    experiment: Experiment,
    *,
    as_json: bool,
    resume: str | None = None,
    refresh: tuple[Refresh, ...] = (),
    runner: RunnerConfig = RunnerConfig(),  # noqa: B008 - frozen
) -> None:
    """The whole chain. Raises `InputError`, or whatever went wrong."""
    server.quiet_environment(retries=WATCHED_RETRIES)
    logs.quiet_terminal()
    warnings.simplefilter("ignore")
    keep_freed_memory()
    require_devices_of(experiment)
    require_work_for(runner, experiment)
    try:
        with stopping.terminable():  # from here on there is a server to take along
            own = server_under_way()
            from flows.cli import running

            running.run(experiment, own, as_json=as_json, resume=resume, refresh=refresh, runner=runner)
    except KeyboardInterrupt:
        raise stopping.Interrupted(signal.SIGINT) from None


def require_work_for(runner: RunnerConfig, experiment: Experiment) -> None:
    """Raises `InputError` where the engine is not there, or has nothing to do."""
    if runner.kind != "plain" and not experiment.crossval.folds:
        raise InputError(
            f"--engine {runner.kind} shares out the folds of a cross-validation, and crossval.folds is 0; "
            "add --crossval.folds 5, or leave --engine out"
        )
    engines.require(runner)


def server_under_way() -> server.LocalServer | None:
    """One for this run alone, started; None where the user has chosen one. Raises `InputError`."""
    writable_home()
    api = server.configured()
    if api is not None:
        server.require_answer(api)
        return None
    own = server.LocalServer(home() / "logs" / "prefect-server.log")
    own.start()
    return own
