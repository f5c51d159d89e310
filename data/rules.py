"""Rules without a level: what no setting changes. The others are in `data/gate`."""

from collections.abc import Iterable

import numpy as np

from data.gate.found import Finding as Finding
from data.gate.found import finding
from data.gate.words import count, few
from data.images import Images
from data.snapshot import Snapshot
from data.spec import Part
from data.split import Split


def no_pictures(snapshot: Snapshot) -> Iterable[Finding]:
    if snapshot.files:
        return
    astray = [file for file in snapshot.ignored if not file.endswith("/")]
    holds = f"only {count(astray, 'file')}, and no picture in a class folder" if astray else "no files"
    message = f"{snapshot.root} holds {holds}; put JPEG, PNG, WebP, BMP, GIF or TIFF files into one folder per class"
    yield finding("no_pictures", "stop", message, astray)


def one_class(snapshot: Snapshot) -> Iterable[Finding]:
    if len(snapshot.classes) == 1:
        message = (
            f"{snapshot.root} has one class only, {snapshot.classes[0]!r}; "
            "a classifier needs at least two folders of pictures"
        )
        yield finding("one_class", "stop", message)


def test_only(snapshot: Snapshot) -> Iterable[Finding]:
    if snapshot.parts and set(snapshot.parts) == {Part.TEST}:
        message = f"{snapshot.root} has a test folder and nothing to train on; add a train folder beside it"
        yield finding("test_only", "stop", message)


def empty_classes(snapshot: Snapshot) -> Iterable[Finding]:
    folders = [file for file in snapshot.ignored if file.endswith("/")]
    if folders and snapshot.files:
        message = f"{count(folders, 'folder')} without pictures, so no class: {few(folders)}; fill or remove"
        yield finding("empty_classes", "warn", message, folders)


def ignored(snapshot: Snapshot) -> Iterable[Finding]:
    files = [file for file in snapshot.ignored if not file.endswith("/")]
    if files and snapshot.files:
        message = f"{count(files, 'file')} ignored: no picture by its name, or in no class folder ({few(files)})"
        yield finding("ignored", "note", message, files)


def missing(snapshot: Snapshot, most: float) -> Iterable[Finding]:
    """Of what a listing names, more than the share `most` refuses it."""
    names, total = snapshot.missing, len(snapshot.missing) + len(snapshot.files)
    if not names:
        return
    share = f"{len(names):,} of {total:,} listed files ({len(names) / total:.1%}) are not there"
    if len(names) > most * total:
        message = f"{share}, more than dataset.max_unreadable {most:g} allows, such as {few(names)}; bring them back"
        yield finding("missing", "stop", message, names)
    else:
        message = f"{share}, and are left out: {few(names)}; bring them back, or take them off the listing"
        yield finding("missing", "warn", message, names)


def ungrouped(snapshot: Snapshot) -> Iterable[Finding]:
    files = [file for file, group in zip(snapshot.files, snapshot.groups, strict=False) if group is None]
    if files:
        message = (
            f"{count(files, 'picture')} in no group, such as {few(files[:1])}, and divided each by itself; "
            "name their groups in the listing, or mend dataset.group"
        )
        yield finding("ungrouped", "warn", message, files)


def between_groups(images: Images, split: Split, left: np.ndarray) -> Iterable[Finding]:
    """`left` (N,) bool: rows of the snapshot that nobody dropped."""
    used = np.concatenate([split.train, split.val, split.test])
    rows = np.setdiff1d(np.flatnonzero(left[images.rows]), used).tolist()
    files = [images.snapshot.files[images.rows[row]] for row in rows if images.group(row) is not None]
    if files:
        message = (
            f"{count(files, 'picture')} in no part: a copy, or an earlier run, has the same content in another part "
            f"than this group's ({few(files)})"
        )
        yield finding("between_groups", "note", message, files)


def by_time(images: Images, split: Split, by: str | None) -> Iterable[Finding]:
    """`by`: what `dataset.split_by` says."""
    if by != "time":
        return
    begins = [min((images.time(row) or "" for row in rows), default="") for rows in (split.val, split.test)]
    if all(begins):
        message = (
            f"split by time: validation from {begins[0][:16]}, test from {begins[1][:16]} on (UTC); newer pictures "
            "join the test part, until dataset.split_seed is another"
        )
        yield finding("by_time", "note", message)


def never_trained(images: Images, split: Split) -> Iterable[Finding]:
    missing = _missing(images, split.train)
    if missing:
        message = (
            f"no picture of {few(map(repr, missing))} is trained on, so it is never answered; add pictures to train"
        )
        yield finding("never_trained", "warn", message)


def never_tested(images: Images, split: Split) -> Iterable[Finding]:
    for part, rows in ((Part.VAL, split.val), (Part.TEST, split.test)):
        missing = _missing(images, rows)
        if missing:
            message = f"the {part} part has no picture of {few(map(repr, missing))}, whose figures are left open"
            yield finding(f"missing_in_{part}", "warn", message)


def _missing(images: Images, rows: np.ndarray) -> list[str]:
    present = set(images.labels[rows].tolist())
    return [label for i, label in enumerate(images.classes) if i not in present]
