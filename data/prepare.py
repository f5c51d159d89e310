"""A source -> checked pictures, split: the chain of this folder in one function."""

from dataclasses import dataclass
from pathlib import Path

from data import catalog, images, snapshot, split, validate
from data import progress as progress_
from data.errors import DataRefused
from data.history import since
from data.images import Images
from data.progress import Progress
from data.spec import DatasetSpec
from data.split import Split
from data.validate import Finding, ValidationReport

__all__ = ["Dataset", "Progress", "inspect", "prepare"]


@dataclass(frozen=True)
class Dataset:
    """All that training needs to know of the pictures."""

    images: Images
    split: Split
    report: ValidationReport


def prepare(
    spec: DatasetSpec, home: Path, *, anew: bool = False, keep: bool = True, progress: Progress | None = None
) -> Dataset:
    """Fetch, list, decode, split and check. `anew`: every file is read and decoded again, whatever is remembered.
    `keep`: which pictures there are is written down, as those that the next run compares its own with.

    Raises `InputError` with one sentence when the pictures are refused.
    """
    found = _examine(spec, home, progress or progress_.ignore, anew=anew, keep=keep)
    report = found.report if isinstance(found, Dataset) else found
    for finding in report.findings:
        if finding.level == "stop":
            raise DataRefused(finding.message)
    assert isinstance(found, Dataset)  # a report alone has a stop
    return found


def inspect(spec: DatasetSpec, home: Path, *, progress: Progress | None = None) -> ValidationReport:
    """The report, also where it refuses. Raises `SourceError` if there is nothing to report on."""
    found = _examine(spec, home, progress or progress_.ignore, anew=False, keep=False)
    return found.report if isinstance(found, Dataset) else found


def _examine(
    spec: DatasetSpec, home: Path, progress: Progress, *, anew: bool, keep: bool
) -> Dataset | ValidationReport:
    """Each step is dearer than the one before, so a stop ends the chain there, with what is known."""
    fetched = catalog.fetch(spec, home, progress=progress)
    listed = snapshot.take(fetched.root, fetched.name, fetched.mirror, home=home, anew=anew, progress=progress)
    findings = validate.check_listing(listed)
    if _stops(findings):
        return validate.refusal(listed, findings)
    decoded = images.build(listed, images.choose_spec(listed, spec), home, anew=anew, progress=progress)
    findings += validate.check_images(decoded, spec)
    if _stops(findings):
        return validate.refusal(listed, findings, num_unreadable=len(decoded.unreadable))
    parts = split.assign(decoded, spec, home)
    report = since.told(validate.check(decoded, parts, spec), decoded, parts, spec, home, keep=keep)
    return Dataset(decoded, parts, report)


def _stops(findings: tuple[Finding, ...]) -> bool:
    return any(finding.level == "stop" for finding in findings)
