"""What changed since a data set was last prepared, told with what else was found; and the record for the next time."""

import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from data import whole
from data.errors import InputError
from data.gate.words import few
from data.history import records
from data.history.diff import Difference, diff
from data.history.records import Last, Record
from data.images import Images
from data.spec import DatasetSpec
from data.split import Split
from data.validate import Finding, ValidationReport

OF_THE_PICTURES = (
    "name",
    "sha256",
    "more",
    "group",
    "label",
    "rename",
)  # settings beside the source that decide which they are


def told(
    report: ValidationReport, images: Images, split: Split, spec: DatasetSpec, home: Path, *, keep: bool
) -> ValidationReport:
    """The report with what is different from the record that was kept last under this data set's name; and, to `keep`,
    the record of now in its place, unless the pictures are refused."""
    now, called = records.of(images, split), records.name_of(report.fingerprint, spec)
    with whole.locked(records.folder(home)):
        last = records.last(report.name, home)
        changed = None if last is None or last.record == called else _difference(last, now, home)
        if last is not None and changed is not None:
            level = spec.gate.classes_changed.level
            stopped = not report.ok or (level == "stop" and bool(changed.classes_added or changed.classes_removed))
            other = _short(called, last.record) if keep and not stopped else _source(spec)
            command = f"trainserve data diff {_short(last.record, called)} {other}"
            found = _findings(changed, _date(last), command, level)
            report = report.model_copy(update={"findings": (*report.findings, *found)})
        if keep and report.ok:
            records.keep(now, called, data_set=report.name, home=home)
    return report


def _difference(last: Last, now: Record, home: Path) -> Difference | None:
    """None where the last record is gone, or damaged: nothing is known then."""
    file = records.find(last.record, home)
    try:
        return None if file is None else diff(records.load(file), now)
    except InputError:
        return None


def _findings(
    changed: Difference, date: str, command: str, level: Literal["ignore", "warn", "stop"]
) -> Iterator[Finding]:
    new, gone = (few(map(repr, labels)) for labels in (changed.classes_added, changed.classes_removed))
    if level != "ignore" and (new or gone):
        said = "; ".join([*([f"new: {new}"] if new else []), *([f"gone: {gone}"] if gone else [])])
        message = (
            f"since {date} the classes changed ({said}); a new model is compared with the one in service on the "
            f"classes both know; `{command}` lists the pictures"
        )
        yield Finding(rule="classes_changed", level=level, message=message)
    if any(changed.counts.values()):
        message = f"since {date}: {changed.sentence}; `{command}` lists them"
        yield Finding(rule="changed", level="note", message=message)


def _source(spec: DatasetSpec) -> str:
    """Where no record is kept: the pictures as they are now, under the settings that decide which they are."""
    said = [f"--dataset.{name}={_text(getattr(spec, name))}" for name in OF_THE_PICTURES if getattr(spec, name)]
    return shlex.join([spec.source, *said])


def _text(setting: str | tuple[str, ...]) -> str:
    return setting if isinstance(setting, str) else ",".join(setting)


def _date(last: Last) -> str:
    return f"{datetime.fromisoformat(last.when):%Y-%m-%d %H:%M} UTC"


def _short(called: str, other: str) -> str:
    """As many digits as are needed, with the settings of the split where the two differ in nothing else."""
    fingerprint, _, settings = called.partition("-")
    digits = fingerprint[: records.SHOWN]
    return f"{digits}-{settings}" if other.startswith(fingerprint) else digits
