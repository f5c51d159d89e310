"""`trainserve sweep`: which settings do best on the validation pictures."""

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from data.errors import InputError
from flows import engines, logs, server, stopping
from flows.cli import running, starting
from flows.console import shown, stderr_console, stdout_console
from flows.devices import require_devices_of
from flows.engines import RunnerConfig
from flows.importing import uncollected
from flows.patience import WATCHED_RETRIES
from flows.settings import overrides
from models.training.allocation import keep_freed_memory

if TYPE_CHECKING:
    from flows.sweep.result import SweepResult

SHOWN = 10  # trials on the terminal


def sweep(
    tokens: Sequence[str], config: Path | None, *, trials: int, prune: bool, runner: RunnerConfig, as_json: bool
) -> None:
    """Raises `InputError`, before anything is started where a look at the words shows it."""
    from flows.sweep.search import MOST_TRIALS, parsed, require_optuna, split

    if not 1 <= trials <= MOST_TRIALS:
        raise InputError(f"--trials is {trials}; it should be at least 1, at most {MOST_TRIALS:,}")
    rest, search = split(tokens)
    experiment = overrides.experiment(rest, config=config)
    parsed(search, experiment)
    require_optuna()
    engines.require(runner)
    server.quiet_environment(retries=WATCHED_RETRIES)
    logs.quiet_terminal()
    warnings.simplefilter("ignore")
    keep_freed_memory()
    require_devices_of(experiment)
    with (
        stopping.terminable(),
        shown(stderr_console()) as view,
        redirect_stdout(sys.stderr),  # libraries print; our result comes after this
        running.interruptible(view),
    ):
        own = starting.server_under_way()
        with view.stage("start"), uncollected():
            running.imported(view, own, meanwhile=lambda: running.refuse_early(experiment))
            from prefect import tags

            from flows.sweep.flow import SweepConfig
            from flows.sweep.flow import sweep as flow
        with logs.kept_in(running.log_file()), tags("trainserve"):  # as `running`
            how = SweepConfig(trials=trials, prune=prune)
            result, told = running.ended(lambda: flow(experiment, search, how, runner), view=view)
    running.log_file().unlink(missing_ok=True)
    say(result, as_json=as_json)
    if not told:
        stopping.end(0)


def say(result: "SweepResult", *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(result.model_dump_json() + "\n")
    else:
        summarise(result, stdout_console())


def summarise(result: "SweepResult", console: Console) -> None:
    """For a person: the best trials, and what to type."""
    from flows.sweep.result import bare, ranked

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.settings))
    for column in ("trial", result.monitor, "epochs", *names, ""):
        table.add_column(column, justify="right" if column else "left")
    for trial in ranked(result)[:SHOWN]:
        end = {"complete": "", "pruned": "given up", "failed": "failed"}[trial.state]
        values = [trial.settings.get(name, "") for name in names]
        table.add_row(str(trial.number), bare(trial.value, result.monitor), str(trial.epochs), *values, end)
    console.print()
    console.print(table)
    console.print(result.sentence, soft_wrap=True, markup=False, highlight=False)
    if result.command is not None:
        console.print(f"train with the best settings: {result.command}", soft_wrap=True, markup=False, highlight=False)
