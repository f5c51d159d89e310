"""All the rules over a data set -> a report that refuses or lets through."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from data import rules
from data.images import Images
from data.rules import Finding
from data.snapshot import Snapshot
from data.spec import DatasetSpec, Frozen, Part
from data.split import Split

__all__ = [
    "ClassCount",
    "Finding",
    "ValidationReport",
    "check",
    "check_images",
    "check_listing",
    "check_split",
    "refusal",
]


class ClassCount(Frozen):
    label: str
    train: int
    val: int
    test: int


class ValidationReport(Frozen):
    """The state of a data set before any training."""

    name: str
    fingerprint: str
    num_examples: int  # readable; as listed where a rule stopped before anything was decoded
    num_unreadable: int
    height: int  # of the network's input; 0 where a rule stopped before anything was decoded
    width: int
    channels: int
    classes: tuple[ClassCount, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.level != "stop" for finding in self.findings)


def check(images: Images, split: Split, spec: DatasetSpec) -> ValidationReport:
    """All rules: of the listing, of the decoded pictures, of the split."""
    findings = chain(check_listing(images.snapshot), check_images(images, spec), check_split(images, split))
    counts = {part: np.bincount(images.labels[getattr(split, part)], minlength=len(images.classes)) for part in Part}
    classes = tuple(
        ClassCount(label=label, **{part.value: int(counts[part][i]) for part in Part})
        for i, label in enumerate(images.classes)
    )
    return ValidationReport(
        name=images.snapshot.name,
        fingerprint=images.snapshot.fingerprint,
        num_examples=len(images.rows),
        num_unreadable=len(images.unreadable),
        height=images.spec.height,
        width=images.spec.width,
        channels=images.spec.channels,
        classes=classes,
        findings=tuple(dict.fromkeys(findings)),  # a class too small before decoding is so after it
    )


def refusal(snapshot: Snapshot, findings: Sequence[Finding], *, num_unreadable: int = 0) -> ValidationReport:
    """The report where a rule stopped before there was a split: what the source does not state counts as train."""
    counts = Counter(zip(snapshot.labels.tolist(), (part or Part.TRAIN for part in snapshot.parts), strict=True))
    return ValidationReport(
        name=snapshot.name,
        fingerprint=snapshot.fingerprint,
        num_examples=len(snapshot.files) - num_unreadable,
        num_unreadable=num_unreadable,
        height=0,
        width=0,
        channels=0,
        classes=tuple(
            ClassCount(label=label, train=counts[i, Part.TRAIN], val=counts[i, Part.VAL], test=counts[i, Part.TEST])
            for i, label in enumerate(snapshot.classes)
        ),
        findings=tuple(findings),
    )


def check_listing(snapshot: Snapshot) -> tuple[Finding, ...]:
    """The rules that need no decoding."""
    checks = (
        rules.no_pictures,
        rules.one_class,
        rules.test_only,
        rules.duplicates,
        rules.contradictions,
        rules.leakage,
        rules.imbalance,
        rules.empty_classes,
        rules.ignored,
    )
    found = chain.from_iterable(rule(snapshot) for rule in checks)
    return (*found, *rules.few_pictures(snapshot, range(len(snapshot.files))))


def check_images(images: Images, spec: DatasetSpec) -> tuple[Finding, ...]:
    """The rules that need the pictures decoded."""
    return (*rules.unreadable(images, spec), *rules.few_pictures(images.snapshot, images.rows.tolist()))


def check_split(images: Images, split: Split) -> tuple[Finding, ...]:
    """The rules that need the split."""
    return (*rules.never_trained(images, split), *rules.never_tested(images, split))
