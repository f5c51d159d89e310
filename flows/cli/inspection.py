"""`trainserve data inspect`: what `run` would make of the pictures."""

import json
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from data import prepare
from data.errors import DataRefused
from data.validate import ValidationReport
from flows.console import display, shown, stderr_console, stdout_console
from flows.place import writable_home
from flows.settings import overrides

STYLES = {"stop": "red", "warn": "yellow", "note": "dim"}


def inspect(source: str, settings: Sequence[str], *, as_json: bool) -> None:
    """Raises `DataRefused` where a rule stops them: its sentence comes once, after all else is printed."""
    experiment = overrides.experiment(["--dataset.source", source, *settings])
    with shown(stderr_console()), display().stage("inspect"):
        report = prepare.inspect(
            experiment.pictures, writable_home(), progress=lambda what, n, of: display().moved(what, n, of)
        )
    stop = next((finding.message for finding in report.findings if finding.level == "stop"), None)
    if not as_json:
        show(report, stdout_console(), untold=stop)
        if stop is not None:
            raise DataRefused(stop)
        return
    told = report.model_dump(mode="json") | ({} if stop is None else {"error": stop})
    sys.stdout.write(json.dumps(told) + "\n")
    if stop is not None:  # not raised, for that would put a second object on standard output
        print(f"trainserve: {stop}", file=sys.stderr)
        sys.exit(2)


def show(report: ValidationReport, console: Console, *, untold: str | None = None) -> None:
    """`untold` is the finding that the refusal will say: of it only the files are listed."""
    console.print(
        f"{report.name}: {report.num_examples:,} pictures, {len(report.classes)} classes, "
        f"{report.num_unreadable:,} unreadable; seen at {report.width} x {report.height} x {report.channels}",
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("class")
    for part in ("train", "validation", "test"):
        table.add_column(part, justify="right")
    for count in report.classes:
        table.add_row(count.label, f"{count.train:,}", f"{count.val:,}", f"{count.test:,}")
    console.print(table, markup=False)
    for finding in report.findings:
        if finding.message != untold:
            line = f"{finding.level}: {finding.message}"
            console.print(line, style=STYLES[finding.level], markup=False, highlight=False)
        for file in finding.files[:10]:
            console.print(f"    {file}", style="dim", markup=False, highlight=False)
