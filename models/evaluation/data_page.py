"""What was found in a data set before anything is trained -> one HTML file with pictures: no script, no request."""

from pathlib import Path

from data import whole
from data.errors import InputError
from data.gate import quarantine
from data.snapshot import Snapshot
from data.validate import ValidationReport
from models.evaluation.html import environment
from models.evaluation.sheets import sheets


def write(report: ValidationReport, snapshot: Snapshot, to: Path, *, home: Path) -> Path:
    """The page, whole or absent. Raises `InputError` where it cannot be written."""
    page = render(report, snapshot, decisions=quarantine.file_of(home, report.name))
    try:
        return whole.write(to, page.encode())
    except OSError as error:
        raise InputError(f"{to} cannot be written ({error.strerror}); name a file in a folder of yours") from None


def render(report: ValidationReport, snapshot: Snapshot, *, decisions: Path) -> str:
    """`decisions`: the list in which a person decides about single pictures. The page names it without the folders:
    it is made to be handed on."""
    shown = sheets(report.findings, snapshot)
    return (
        environment()
        .get_template("data.html.j2")
        .render(
            data=report,
            sheets=shown,
            pictures={rule: sum(map(len, groups)) for rule, groups in shown.items()},
            dropped={one.rule: one.said for one in report.dropped},
            decisions=decisions.name if decisions.exists() else None,
        )
    )
