"""All the rules over a data set -> a report that refuses or lets through."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from data import progress as progress_
from data import rules
from data.gate import balance, copies, files, groups, judge, looks, near_copies, shift
from data.gate.found import Finding as Finding
from data.gate.found import Subject
from data.gate.judge import Dropped, Rule, Seen
from data.gate.quarantine import Decisions, Suspect
from data.images import Images
from data.progress import Progress
from data.snapshot import Snapshot
from data.spec import DatasetSpec, Frozen, Part
from data.split import Split

# In the order in which they are asked: each sees what those before it have left.
OF_THE_LISTING: dict[str, Rule] = {
    "contradictions": copies.contradictions,
    "leakage": copies.leakage,
    "group_leakage": groups.group_leakage,
    "copies": copies.copies,
    "imbalance": balance.imbalance,
    "few": balance.few,
}
OF_THE_FILES: dict[str, Rule] = {
    "truncated": files.truncated,
    "unreadable": files.unreadable,
    "few": balance.few,  # once more, of those that can be read
}
OF_THE_PICTURES: dict[str, Rule] = {
    "dark": looks.dark,
    "light": looks.light,
    "blank": looks.blank,
    "blurred": looks.blurred,
    "odd_size": looks.odd_size,
    "odd_aspect": looks.odd_aspect,
    "near_contradictions": near_copies.near_contradictions,
    "near": near_copies.near,
    "few": balance.few,  # and of those that were not dropped
}
OF_THE_PARTS: dict[str, Rule] = {"near_leakage": near_copies.near_leakage}
OF_THE_SPLIT: dict[str, Rule] = {"shift": shift.shift}

Told = dict[str, Seen]  # rule -> what it saw


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
    dropped: tuple[Dropped, ...] = ()  # by rule; readable pictures that are in no part
    relabelled: int = 0  # by a person's decision

    @property
    def ok(self) -> bool:
        return all(finding.level != "stop" for finding in self.findings)


def subject_of(
    snapshot: Snapshot,
    spec: DatasetSpec,
    home: Path,
    decisions: Decisions,
    *,
    progress: Progress = progress_.ignore,
) -> Subject:
    """What the rules are to look at, at first: all that no person has dropped."""
    dropped, kept = decisions.digests("drop"), decisions.digests("keep")
    left, silenced = ~_among(snapshot, dropped), _among(snapshot, kept)
    return Subject(snapshot, spec, home, left, silenced, progress=progress)


def _among(snapshot: Snapshot, digests: frozenset[str]) -> np.ndarray:
    """(N,) bool: which of the pictures are these."""
    num = len(snapshot.digests)
    return np.fromiter(map(digests.__contains__, snapshot.digests), bool, num) if digests else np.zeros(num, bool)


def check_listing(subject: Subject, decisions: Decisions) -> tuple[Told, Subject]:
    """The rules that need no decoding."""
    snapshot = subject.snapshot
    where = f"datasets/{decisions.file.parent.name}/{decisions.file.name}"
    told = judge.decided(subject, relabelled=snapshot.relabelled, where=where)
    fixed = (rules.no_pictures, rules.one_class, rules.test_only, rules.empty_classes, rules.ignored)
    told |= _fixed(rule(snapshot) for rule in fixed)
    told |= _fixed([rules.missing(snapshot, subject.spec.max_unreadable), rules.ungrouped(snapshot)])
    seen, subject = judge.look(OF_THE_LISTING, subject)
    return told | seen, subject


def check_images(subject: Subject, images: Images) -> tuple[Told, Subject]:
    """The rules that need the pictures decoded; those that measure them are not asked where what could not be decoded
    stops it all."""
    told, subject = judge.look(OF_THE_FILES, replace(subject, images=images))
    if stops(told):
        return told, subject
    more, subject = judge.look(OF_THE_PICTURES, subject)
    return told | more, subject


def check_parts(subject: Subject, split: Split) -> tuple[Told, Subject]:
    """The rules that need to know who is in which part, and may still drop some; `split`: of all."""
    return judge.look(OF_THE_PARTS, replace(subject, split=split))


def check_split(subject: Subject, split: Split) -> tuple[Told, Subject]:
    """The rules that need the split, without what was dropped."""
    assert subject.images is not None
    told = _fixed([rules.never_trained(subject.images, split), rules.never_tested(subject.images, split)])
    told |= _fixed([rules.between_groups(subject.images, split, subject.left)])
    told |= _fixed([rules.by_time(subject.images, split, subject.spec.split_by)])
    seen, subject = judge.look(OF_THE_SPLIT, replace(subject, split=split))
    return told | seen, subject


def report(
    images: Images, split: Split, told: Mapping[str, Seen], dropped: tuple[Dropped, ...] = ()
) -> ValidationReport:
    """All that was found, of a data set that has come as far as its split."""
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
        findings=tuple(seen.finding for seen in told.values()),
        dropped=dropped,
        relabelled=images.snapshot.relabelled,
    )


def refusal(subject: Subject, told: Mapping[str, Seen]) -> ValidationReport:
    """The report where a rule stopped before there was a split: what the source does not state counts as train."""
    snapshot = subject.snapshot
    num_unreadable = 0 if subject.images is None else len(subject.images.unreadable)
    said = snapshot.stated.by(lambda part: list(Part).index(part or Part.TRAIN))
    counts = np.bincount(snapshot.labels * len(Part) + said, minlength=len(snapshot.classes) * len(Part))
    return ValidationReport(
        name=snapshot.name,
        fingerprint=snapshot.fingerprint,
        num_examples=len(snapshot.files) - num_unreadable,
        num_unreadable=num_unreadable,
        height=0,
        width=0,
        channels=0,
        classes=tuple(
            ClassCount(label=label, **dict(zip(Part, some, strict=True)))
            for label, some in zip(snapshot.classes, counts.reshape(-1, len(Part)).tolist(), strict=True)
        ),
        findings=tuple(seen.finding for seen in told.values()),
        relabelled=snapshot.relabelled,
    )


def stops(told: Told) -> bool:
    return any(seen.finding.level == "stop" for seen in told.values())


def suspects(told: Mapping[str, Seen], subject: Subject) -> list[Suspect]:
    """One for each content that a rule spotted, for the quarantine list."""
    found: dict[tuple[str, str], Suspect] = {}
    for rule, seen in told.items():
        for spot in seen.spots:
            key = subject.snapshot.digests[spot.row], rule
            before = found.get(key)
            file = subject.file(spot.row) if before is None else f"{before.file} | {subject.file(spot.row)}"
            found[key] = Suspect(key[0], file, rule, spot.score, spot.advice)
    return list(found.values())


def _fixed(findings: Iterable[Iterable[Finding]]) -> Told:
    return {finding.rule: Seen(finding) for finding in chain.from_iterable(findings)}
