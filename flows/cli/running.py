"""`trainserve run`: Prefect at hand, the flow, and what is said at the end."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows import logs, patience, server, stopping
from flows.console import Display, duration, shown, stderr_console, stdout_console
from flows.engines import RunnerConfig
from flows.importing import beginning_of_a_flow, uncollected
from flows.outcome import Outcome
from flows.place import home
from flows.reuse.stages import Refresh
from models.config import Experiment
from models.evaluation.metrics import Metrics
from models.evaluation.percent import percent
from models.verdict import MARKS, Check

T = TypeVar("T")


def run(
    experiment: Experiment,
    own: server.LocalServer | None,
    *,
    as_json: bool,
    resume: str | None = None,
    refresh: tuple[Refresh, ...] = (),
    runner: RunnerConfig = RunnerConfig(),  # noqa: B008 - frozen
) -> None:
    """The whole chain, reporting to `own`, which has been started, or to the server that the user has chosen.

    Raises `InputError`, or whatever went wrong.
    """
    with (
        shown(stderr_console()) as view,
        redirect_stdout(sys.stderr),  # libraries print; our result comes after this
        interruptible(view),
    ):
        with view.stage("start"), uncollected():
            imported(view, own, meanwhile=lambda: refuse_early(experiment))
        from prefect import tags

        from flows.pipeline import pipeline

        with logs.kept_in(log_file()), tags("trainserve"):  # by which it is found, if it dies
            outcome, told = ended(
                lambda: pipeline(experiment, resume=resume, refresh=refresh, runner=runner), view=view
            )
    log_file().unlink(missing_ok=True)  # all went well, and the run's folder has its own
    if as_json:
        sys.stdout.write(outcome.model_dump_json() + "\n")
    else:
        summarise(outcome, stdout_console())
    if not told:
        stopping.end(0)


def ended(flow: Callable[[], T], *, view: Display) -> tuple[T, bool]:
    """What the flow comes to; and false where the Prefect server could not be told of its end, so that whatever else it
    is to be told would be tried for minutes."""
    try:
        return flow(), True
    except Exception as error:
        if view.result is None:
            raise
        why = " ".join(str(error).split())[:200] or type(error).__name__
        view.note(
            f"the Prefect server did not hear that this run has ended, and may call it dead: {why}", style="yellow"
        )
        return cast("T", view.result), False


@contextmanager
def interruptible(view: Display) -> Iterator[None]:
    """Ctrl-C and SIGTERM leave by `Interrupted`, which names the run to go on with."""
    try:
        with stopping.terminable():
            yield
    except KeyboardInterrupt:
        raise stopping.Interrupted(signal.SIGINT, view.run_id) from None
    except stopping.Interrupted as end:
        raise stopping.Interrupted(end.number, view.run_id) from None


def imported(view: Display, own: server.LocalServer | None, *, meanwhile: Callable[[], None]) -> None:
    """All that the flow needs until its first step of training; and the server of this run, if any, answers."""
    try:
        meanwhile()
    except BaseException:
        if own is not None:
            own.stop()
        raise
    view.moved("importing torch", 0, 0)
    import models.training.learn  # noqa: F401

    view.moved("importing Prefect", 0, 0)
    beginning_of_a_flow()
    patience.soon_again(on_wait=view.note)
    if own is not None:
        view.moved("waiting for Prefect's server", 0, 0)
        own.wait()
        view.say(f"Prefect at {own.url} until this run ends")


def refuse_early(experiment: Experiment) -> None:
    """What the sources' texts and a look at local files show, while the server starts and before anything is kept of
    them. Raises `InputError`."""
    from data import prepare  # late: Pillow and more, which the server need not wait for
    from data.sources.kinds import Local, parse_source

    spec = experiment.dataset
    sources = [parse_source(source) for source in (spec.source, *spec.more)]
    if all(isinstance(source, Local) for source in sources):
        prepare.refuse_early(spec, home())


@cache
def log_file() -> Path:
    """Of this process."""
    return home() / "logs" / f"run-{datetime.now():%Y%m%d-%H%M%S}.log"


def unexpected(error: Exception) -> str:
    """One sentence about an error that is not the user's; the trace goes to the log."""
    import traceback

    what = " ".join(str(error).split())[:300] or "no message"
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        with log_file().open("a") as log:
            traceback.print_exception(error, file=log)
    except OSError:
        return f"failed: {type(error).__name__}: {what}"
    return f"failed: {type(error).__name__}: {what}; the log is {log_file()}"


def summarise(outcome: Outcome, console: Console) -> None:
    """For a person."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "accuracy", "95 % interval", "macro F1", "pictures"):
        table.add_column(column, justify="left" if not column else "right")
    for part, metrics in (("validation", outcome.metrics.validation), ("test", outcome.metrics.test)):
        table.add_row(part, *_cells(metrics))
    crossval = outcome.metrics.crossval
    if crossval is not None:
        spread = f"± {100 * crossval.std:.1f} over {len(crossval.folds)} folds"
        table.add_row("cross-validation", percent(crossval.mean), spread, "", "")
    console.print()
    console.print(table)
    mark = "[green]promoted[/]" if outcome.verdict.promoted else "[yellow]not promoted[/]"
    mark = "[green]in service[/]" if outcome.verdict.champion == outcome.model else mark
    lines = {
        "model": outcome.model,
        "run folder": str(outcome.run_folder),
        "report": str(outcome.run_folder / "report.html"),
        "Prefect run": outcome.flow_run_url or "`prefect server start`, then http://127.0.0.1:4200/runs",
        **serving(outcome),
        "time": duration(sum(outcome.seconds.values())),
    }
    console.print(f"{mark}: ", end="")
    console.print(outcome.verdict.reason, soft_wrap=True, markup=False, highlight=False)
    if outcome.verdict.checks:
        console.print(checked(outcome.verdict.checks))
    for name, value in lines.items():
        console.print(f"{name:<12} {value}", soft_wrap=True, markup=False, highlight=False)


def checked(checks: Sequence[Check]) -> Table:
    """What was looked at before the decision."""
    table = Table(box=None, show_header=False, pad_edge=True)
    for check in checks:
        style = {True: "green", False: "red", None: "dim"}[check.ok]
        row = (Text(text) for text in (check.name, check.said))  # a class may be called [red]
        table.add_row(Text(MARKS[check.ok], style=style), *row, style="dim" if check.ok is None else "")
    return table


def serving(outcome: Outcome) -> dict[str, str]:
    """The line that says how to serve the model: only where `serve` would find it in service."""
    name = outcome.model.partition("@")[0]
    return {"serve it": f"trainserve serve --model {name}"} if outcome.verdict.promoted else {}


def _cells(metrics: Metrics) -> tuple[str, ...]:
    interval = f"{percent(metrics.interval.low)} to {percent(metrics.interval.high)}"
    return percent(metrics.accuracy), interval, percent(metrics.macro_f1), f"{metrics.n:,}"
