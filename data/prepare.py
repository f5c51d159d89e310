"""A source -> checked pictures, split: the chain of this folder in one function."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data import catalog, images, snapshot, split, validate
from data import progress as progress_
from data.errors import DataRefused
from data.gate import judge, near_copies, quarantine
from data.gate.found import Subject
from data.history import since
from data.images import Images
from data.progress import Progress
from data.shards import opening
from data.snapshot import Snapshot
from data.sources import gathered
from data.spec import DatasetSpec
from data.split import Split
from data.validate import Finding, Told, ValidationReport

__all__ = ["Dataset", "Progress", "examined", "inspect", "listed", "prepare", "refuse_early"]


@dataclass(frozen=True)
class Dataset:
    """All that training needs to know of the pictures."""

    images: Images
    split: Split
    report: ValidationReport
    alike: Sequence[Sequence[int]] = ()  # rows that are nearly the same, group by group


@dataclass(frozen=True)
class Refused:
    """All that is known of pictures where a rule stopped them before they were split."""

    snapshot: Snapshot
    report: ValidationReport


def prepare(
    spec: DatasetSpec, home: Path, *, anew: bool = False, again: bool = False, progress: Progress | None = None
) -> Dataset:
    """Fetch, list, decode, split and check. `anew`: every file is read and decoded again, whatever is remembered.
    `again`: for another process of a run that has prepared them. What was fetched is taken as it is; otherwise it is
    brought up to date, and which pictures there are is written down, as those that the next run compares its own with.

    Raises `InputError` with one sentence when the pictures are refused.
    """
    found = _examine(spec, home, progress or progress_.ignore, anew=anew, again=again, keep=not again)
    _refuse(found.report.findings)
    assert isinstance(found, Dataset)  # a report alone has a stop
    return found


def refuse_early(spec: DatasetSpec, home: Path) -> None:
    """What the listing alone shows, before anything is decoded. Raises `InputError`."""
    listed(spec, home)


def listed(spec: DatasetSpec, home: Path, *, progress: Progress | None = None) -> Snapshot:
    """Which pictures there are. Raises `InputError` for what the listing alone shows."""
    told, subject = _listed(spec, home, progress or progress_.ignore, anew=False, again=False)
    if validate.stops(told):
        _refuse(_refused(told, subject).report.findings)
    return subject.snapshot


def inspect(spec: DatasetSpec, home: Path, *, progress: Progress | None = None) -> ValidationReport:
    """The report, also where it refuses. Raises `SourceError` if there is nothing to report on."""
    return examined(spec, home, progress=progress)[0]


def examined(spec: DatasetSpec, home: Path, *, progress: Progress | None = None) -> tuple[ValidationReport, Snapshot]:
    """The same, and the pictures that it speaks of."""
    found = _examine(spec, home, progress or progress_.ignore, anew=False, again=False, keep=False)
    return found.report, found.images.snapshot if isinstance(found, Dataset) else found.snapshot


def _examine(
    spec: DatasetSpec, home: Path, progress: Progress, *, anew: bool, again: bool, keep: bool
) -> Dataset | Refused:
    """Each step is dearer than the one before, so a stop ends the chain there, with what is known."""
    told, subject = _listed(spec, home, progress, anew=anew, again=again)
    listed = subject.snapshot
    if validate.stops(told):
        return _refused(told, subject)
    build = images.build if listed.shards is None else opening.build
    decoded = build(listed, images.choose_spec(listed, spec), home, anew=anew, progress=progress)
    more, subject = validate.check_images(subject, decoded)
    told |= more
    if validate.stops(told):
        return _refused(told, subject)
    alike = near_copies.shots(subject)
    assigned = split.assign(decoded, spec, home, alike=alike)
    more, subject = validate.check_parts(subject, assigned)
    told |= more
    parts, dropped, gone = judge.carried_out(told, assigned, subject)
    if listed.shards is not None:
        decoded = opening.keep(decoded, np.concatenate([parts.val, parts.test]), home, progress=progress)
    decoded = replace(decoded, snapshot=replace(listed, dropped=gone))
    more, subject = validate.check_split(replace(subject, images=decoded), parts)
    told |= more
    _write_down(told, subject)
    report = since.told(validate.report(decoded, parts, told, dropped), decoded, parts, spec, home, keep=keep)
    return Dataset(decoded, parts, report, alike)


def _listed(spec: DatasetSpec, home: Path, progress: Progress, *, anew: bool, again: bool) -> tuple[Told, Subject]:
    """What the rules say of the listing, by which nothing is decoded."""
    fetched = catalog.fetch_all(spec, home, progress=progress, again=again)
    decisions = quarantine.read(quarantine.file_of(home, fetched[0].name))
    listed = snapshot.take(
        fetched[0].root,
        fetched[0].name,
        all(one.mirror for one in fetched),
        home=home,
        anew=anew,
        listings=gathered.listings(fetched, spec),
        decisions=decisions,
        progress=progress,
    )
    return validate.check_listing(validate.subject_of(listed, spec, home, decisions, progress=progress), decisions)


def _refused(told: Told, subject: Subject) -> Refused:
    _write_down(told, subject)
    return Refused(subject.snapshot, validate.refusal(subject, told))


def _write_down(told: Told, subject: Subject) -> None:
    """Where a person can decide."""
    file = quarantine.file_of(subject.home, subject.snapshot.name)
    quarantine.update(file, validate.suspects(told, subject))


def _refuse(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.level == "stop":
            raise DataRefused(finding.message)
