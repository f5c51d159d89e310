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
