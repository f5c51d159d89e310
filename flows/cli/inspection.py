"""`trainserve data inspect`: what `run` would make of the pictures."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data import prepare
from data.errors import DataRefused
from data.gate import quarantine
from data.gate.found import Finding
from data.validate import ValidationReport
from flows.console import display, shown, stderr_console, stdout_console
from flows.place import writable_home
from flows.settings import overrides

STYLES = {"stop": "red", "drop": "yellow", "warn": "yellow", "note": "dim"}
EXAMPLES = 3  # in a line of the table
LONGEST = 40  # characters of a name


def inspect(source: str, settings: Sequence[str], *, html: Path | None = None, as_json: bool) -> None:
    """Raises `DataRefused` where a rule stops them: its sentence comes once, after all else is printed."""
    experiment = overrides.experiment(["--dataset.source", source, *settings])
    home = writable_home()
    with shown(stderr_console()), display().stage("inspect"):
        report, pictures = prepare.examined(
            experiment.pictures, home, progress=lambda what, n, of: display().moved(what, n, of)
        )
        if html is not None:
            from models.evaluation import data_page  # jinja2

            data_page.write(report, pictures, html, home=home)
    stop = next((finding.message for finding in report.findings if finding.level == "stop"), None)
    if not as_json:
        console = stdout_console()
        show(report, console, untold=stop)
        if (file := quarantine.file_of(home, report.name)).exists():
            line = f"decide about single pictures in {file}; `trainserve data quarantine {report.name}` says how"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if html is not None:
            console.print(f"the pictures are in {html}", markup=False, highlight=False, soft_wrap=True)
        if stop is not None:
            raise DataRefused(stop)
        return
    told = report.model_dump(mode="json") | ({} if stop is None else {"error": stop})
    sys.stdout.write(json.dumps(told) + "\n")
    if stop is not None:  # not raised, for that would put a second object on standard output
        print(f"trainserve: {stop}", file=sys.stderr)
        sys.exit(2)


def show(report: ValidationReport, console: Console, *, untold: str | None = None) -> None:
    """`untold` is the finding that the refusal will say."""
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
        table.add_row(Text(count.label), f"{count.train:,}", f"{count.val:,}", f"{count.test:,}")
    console.print(table)
    if not report.findings:
        return
    console.print(findings_table(report))
    for finding in report.findings:
        if finding.message != untold:
            line = f"{finding.rule}: {finding.message}"
            console.print(line, style=STYLES[finding.level], markup=False, highlight=False)


def findings_table(report: ValidationReport) -> Table:
    """Rule, level, count, what was dropped, examples."""
    dropped = {one.rule: one.said for one in report.dropped}
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("rule", no_wrap=True)
    table.add_column("level")
    table.add_column("count", justify="right")
    table.add_column("dropped")
    table.add_column("examples", overflow="fold")
    for finding in report.findings:
        table.add_row(
            finding.rule,
            Text(finding.level, STYLES[finding.level]),
            f"{finding.count:,}" if finding.count else "",
            dropped.get(finding.rule, ""),
            Text("\n".join(examples(finding))),
        )
    return table


def examples(finding: Finding) -> list[str]:
    """Files, or those of one content beside each other."""
    groups = finding.groups or [(file,) for file in finding.files]
    return [" = ".join(map(_short, group[:EXAMPLES])) for group in groups[:EXAMPLES]]


def _short(name: str) -> str:
    """The class stands at the beginning and the number at the end."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[: half - 3]}...{name[-half:]}"
