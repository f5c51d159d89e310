"""One function per rule -> findings. Rules see a listing, the decoded pictures, or the split."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Literal

import numpy as np

from data.images import Images
from data.snapshot import Snapshot
from data.spec import DatasetSpec, Frozen, Part
from data.split import Split

FEWEST = 3  # different pictures of a class: one each to train on, choose by and test on
IMBALANCE = 10.0  # most frequent class over rarest
LISTED = 50  # files in a finding
NAMED = 5  # names in a sentence


class Finding(Frozen):
    """What one rule saw."""

    rule: str
    level: Literal["note", "warn", "stop"]
    message: str  # one sentence: what, the value, the remedy
    files: tuple[str, ...] = ()  # at most 50 of them, relative to the source's root
    groups: tuple[tuple[str, ...], ...] = ()  # those of one content together, at most 50 groups


def no_pictures(snapshot: Snapshot) -> Iterable[Finding]:
    if snapshot.files:
        return
    astray = [file for file in snapshot.ignored if not file.endswith("/")]
    holds = f"only {_count(astray, 'file')}, and no picture in a class folder" if astray else "no files"
    message = f"{snapshot.root} holds {holds}; put JPEG, PNG, WebP, BMP, GIF or TIFF files into one folder per class"
    yield _finding("no_pictures", "stop", message, astray)


def one_class(snapshot: Snapshot) -> Iterable[Finding]:
    if len(snapshot.classes) == 1:
        message = (
            f"{snapshot.root} has one class only, {snapshot.classes[0]!r}; "
            "a classifier needs at least two folders of pictures"
        )
        yield _finding("one_class", "stop", message)


def few_pictures(snapshot: Snapshot, rows: Iterable[int]) -> Iterable[Finding]:
    """`rows`: the readable ones. Copies count once: one picture cannot be both trained on and tested on."""
    distinct: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        distinct[int(snapshot.labels[row])].add(snapshot.digests[row])
    small = {label: len(distinct[i]) for i, label in enumerate(snapshot.classes) if len(distinct[i]) < FEWEST}
    if small:
        named = _few(f"{label!r} has {n}" for label, n in small.items())
        message = f"each class needs at least {FEWEST} different readable pictures: {named}; add pictures or remove it"
        yield _finding("few_pictures", "stop", message)


def test_only(snapshot: Snapshot) -> Iterable[Finding]:
    if snapshot.parts and set(snapshot.parts) == {Part.TEST}:
        message = f"{snapshot.root} has a test folder and nothing to train on; add a train folder beside it"
        yield _finding("test_only", "stop", message)


def duplicates(snapshot: Snapshot) -> Iterable[Finding]:
    same = [rows for rows in _same_content(snapshot) if len({int(snapshot.labels[row]) for row in rows}) == 1]
    files = _names(snapshot, [rows[1:] for rows in same])
    if files:
        message = f"{_count(files, 'copied file')} within a class; remove them to count each picture once"
        yield _finding("duplicates", "note", message, files, _groups(snapshot, same))


def contradictions(snapshot: Snapshot) -> Iterable[Finding]:
    twice = [rows for rows in _same_content(snapshot) if len({int(snapshot.labels[row]) for row in rows}) > 1]
    if twice:
        message = f"{_count(twice, 'picture')} in more than one class; keep each in the class it belongs to"
        yield _finding("contradictions", "warn", message, _names(snapshot, twice), _groups(snapshot, twice))


def leakage(snapshot: Snapshot) -> Iterable[Finding]:
    """Copies in two parts: the one of the weaker part (train, then val) is not used, see `split.Split`."""
    twice = [rows for rows in _same_content(snapshot) if len({snapshot.parts[row] for row in rows}) > 1]
    if twice:
        message = (
            f"{_count(twice, 'picture')} in more than one of train, val and test; "
            "only the test copy is used, or that of val where test has none; remove the others"
        )
        yield _finding("leakage", "warn", message, _names(snapshot, twice), _groups(snapshot, twice))


def imbalance(snapshot: Snapshot) -> Iterable[Finding]:
    counts = np.bincount(snapshot.labels, minlength=len(snapshot.classes))
    if len(counts) > 1 and counts.max() > IMBALANCE * counts.min():
        most, least = int(counts.argmax()), int(counts.argmin())
        message = (
            f"{snapshot.classes[most]!r} has {counts[most]:,} pictures, {snapshot.classes[least]!r} {counts[least]:,}; "
            "look at each class's recall, not at accuracy alone, or add pictures of the rare class"
        )
        yield _finding("imbalance", "warn", message)


def empty_classes(snapshot: Snapshot) -> Iterable[Finding]:
    folders = [file for file in snapshot.ignored if file.endswith("/")]
    if folders and snapshot.files:
        message = f"{_count(folders, 'folder')} without pictures, so no class: {_few(folders)}; fill or remove"
        yield _finding("empty_classes", "warn", message, folders)


def ignored(snapshot: Snapshot) -> Iterable[Finding]:
    files = [file for file in snapshot.ignored if not file.endswith("/")]
    if files and snapshot.files:
        message = f"{_count(files, 'file')} ignored: no picture by its name, or in no class folder ({_few(files)})"
        yield _finding("ignored", "note", message, files)


def unreadable(images: Images, spec: DatasetSpec) -> Iterable[Finding]:
    bad, total = images.unreadable, len(images.snapshot.files)
    if not bad:
        return
    share = f"{len(bad):,} of {total:,} pictures ({len(bad) / total:.1%}) cannot be read"
    example = f"{_printable(bad[0].file)}: {bad[0].reason}"
    if len(bad) > spec.max_unreadable * total:
        message = (
            f"{share}, more than dataset.max_unreadable {spec.max_unreadable:g} allows, such as {example}; "
            "replace or remove them"
        )
        yield _finding("unreadable", "stop", message, [one.file for one in bad])
    else:
        message = f"{share} and are left out, such as {example}; replace or remove them"
        yield _finding("unreadable", "warn", message, [one.file for one in bad])


def never_trained(images: Images, split: Split) -> Iterable[Finding]:
    missing = _missing(images, split.train)
    if missing:
        message = (
            f"no picture of {_few(map(repr, missing))} is trained on, so it is never answered; add pictures to train"
        )
        yield _finding("never_trained", "warn", message)


def never_tested(images: Images, split: Split) -> Iterable[Finding]:
    for part, rows in ((Part.VAL, split.val), (Part.TEST, split.test)):
        missing = _missing(images, rows)
        if missing:
            message = f"the {part} part has no picture of {_few(map(repr, missing))}, whose figures are left open"
            yield _finding(f"missing_in_{part}", "warn", message)


def _missing(images: Images, rows: np.ndarray) -> list[str]:
    present = set(images.labels[rows].tolist())
    return [label for i, label in enumerate(images.classes) if i not in present]


def _same_content(snapshot: Snapshot) -> list[list[int]]:
    """Rows that share their content, where there are several."""
    counts = Counter(snapshot.digests)
    groups: Mapping[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(snapshot.digests):
        if counts[digest] > 1:
            groups[digest].append(row)
    return list(groups.values())


def _names(snapshot: Snapshot, groups: Iterable[Sequence[int]]) -> list[str]:
    return [snapshot.files[row] for row in chain.from_iterable(groups)]


def _groups(snapshot: Snapshot, groups: Iterable[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(_printable(snapshot.files[row]) for row in rows[:LISTED]) for rows in islice(groups, LISTED))


def _finding(
    rule: str,
    level: Literal["note", "warn", "stop"],
    message: str,
    files: Iterable[str] = (),
    groups: tuple[tuple[str, ...], ...] = (),
) -> Finding:
    listed = tuple(_printable(file) for file in islice(files, LISTED))
    return Finding(rule=rule, level=level, message=message, files=listed, groups=groups)


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def _few(names: Iterable[str]) -> str:
    shown = [_printable(name) for name in names]
    return ", ".join(shown[:NAMED]) + (f" and {len(shown) - NAMED} more" if len(shown) > NAMED else "")


def _printable(name: str) -> str:
    """File names need not be text; reports are."""
    return name.encode("utf-8", "replace").decode()
