"""Rules about pictures that are nearly the same: within a class, in several classes, in several parts.

They are grouped: what is near to the same picture is together. Groups whose files are all of the same bytes are those
of `copies`. Which pairs are near is measured once, with the decoded pictures.
"""

from importlib.metadata import version

import numpy as np

from data.gate import near as measure
from data.gate.config_looks import LEAST_ALIKE, Near, NearContradictions, NearLeakage
from data.gate.copies import strength
from data.gate.found import Found, Spot, Subject
from data.gate.near import Pairs
from data.gate.remembered import Arrays, remembered
from data.gate.words import count
from data.split import STRONGEST

VERSION = 1  # of what is remembered; another one with every change of the measure
FIELDS = ("rows", "mirrored", "bits", "alike", "complete")
SOME = "; there are more pairs than are kept, so these are not all"

Group = tuple[int, ...]  # rows of the snapshot


def near(subject: Subject, setting: Near) -> Found | None:
    """One of each group stays: that of the strongest part, the first by name."""
    groups, alike, more = groups_of(subject, setting.threshold)
    same = [
        tuple(sorted(group, key=lambda row: (strength(subject, row), row)))
        for group in groups
        if not _several_classes(subject, group)
    ]
    if not same:
        return None
    spots = tuple(Spot(row, alike[row], "drop, or keep") for group in same for row in group[1:])
    rest = "each shot counts once" if setting.level == "drop" else "remove them to count each shot once"
    words = f"{count(spots, 'picture')} nearly the same as another one of the class (saved again, cut, brightened)"
    return Found(f"{words}; {rest}{more}", spots, tuple(same))


def near_contradictions(subject: Subject, setting: NearContradictions) -> Found | None:
    """Nobody knows which class is right, so nothing of it can be trusted."""
    groups, alike, more = groups_of(subject, setting.threshold)
    mixed = [group for group in groups if _several_classes(subject, group)]
    if not mixed:
        return None
    classes, labels = subject.snapshot.classes, subject.snapshot.labels
    spots = []
    for group in mixed:
        said = " or ".join(f"label={classes[label]}" for label in np.unique(labels[list(group)]).tolist())
        spots += [Spot(row, alike[row], f"drop, or {said}, or keep") for row in group]
    rest = "left out of training" if setting.level == "drop" else "keep each shot in the class it belongs to"
    words = f"{count(spots, 'picture')} nearly the same as one of another class"
    return Found(f"{words}; {rest}{more}", tuple(spots), tuple(mixed))


def near_leakage(subject: Subject, setting: NearLeakage) -> Found | None:
    """The pictures of a group that lie in a weaker part than another one of it (train, then val) are spotted."""
    assert subject.split is not None
    part = np.full(len(subject.snapshot.files), len(STRONGEST))  # of each row; none: after all of them
    for number, name in enumerate(STRONGEST):
        part[subject.pictures.rows[getattr(subject.split, name)]] = number
    groups, alike, more = groups_of(subject, setting.threshold)
    used = [tuple(row for row in group if part[row] < len(STRONGEST)) for group in groups]
    spread = [group for group in used if len(np.unique(part[list(group)])) > 1]
    if not spread:
        return None
    weaker = [row for group in spread for row in group if part[row] > part[list(group)].min()]
    rest = "those are left out" if setting.level == "drop" else "dataset.gate.near_leakage.level drop leaves those out"
    words = (
        f"{count(weaker, 'picture')} to train on or choose by nearly the same as one of test or validation, which is "
        "then easier than the world"
    )
    spots = tuple(Spot(row, alike[row], "drop, or keep") for row in weaker)
    return Found(f"{words}; {rest}{more}", spots, tuple(spread))


def shots(subject: Subject) -> list[list[int]]:
    """Rows of the decoded pictures that are to be in one part, group by group: whoever is left out or kept, so that no
    decision changes the split. None where `near_leakage` is ignored."""
    setting = subject.spec.gate.near_leakage
    if setting.level == "ignore":
        return []
    pairs = pairs_of(subject).least(setting.threshold)
    return [places.tolist() for places in measure.groups(pairs.rows, len(subject.pictures.rows))]


def groups_of(subject: Subject, least: float) -> tuple[list[Group], dict[int, float], str]:
    """Groups of pictures that are asked about and at least so much alike, the largest first; how alike each is to one
    of its group; and a word where there may be more. Nothing below the size from which on hashes tell."""
    pairs = pairs_of(subject).least(least)
    snapshot, rows = subject.snapshot, subject.pictures.rows
    most = np.zeros(len(rows), np.float32)
    np.maximum.at(most, pairs.rows, pairs.alike[:, None])
    found: list[Group] = []
    for places in measure.groups(pairs.rows, len(rows)):  # before anybody is left out, who may be what links the others
        group = tuple(row for row in rows[places].tolist() if subject.asked[row])
        if len(np.unique(snapshot.contents[list(group)])) > 1:
            found.append(group)
    linked = np.flatnonzero(most)
    alike = dict(zip(rows[linked].tolist(), most[linked].tolist(), strict=True))
    return found, alike, "" if pairs.complete else SOME


def pairs_of(subject: Subject) -> Pairs:
    """All that are near to each other, of all decoded pictures."""
    pixels, mirror, progress = subject.pictures.pixels, subject.snapshot.mirror, subject.progress
    if min(pixels.shape[1:3]) < measure.SMALLEST:
        return Pairs(np.zeros((0, 2), np.int64), np.zeros(0, bool), np.zeros(0, np.uint8), np.zeros(0), complete=True)

    def measured(names: object) -> Arrays:  # noqa: ARG001 - all at once
        pairs = measure.pairs(pixels, measure.hashes(pixels, progress=progress), mirror=mirror).least(LEAST_ALIKE)
        return {name: np.asarray(getattr(pairs, name)) for name in FIELDS}

    of = f"near {VERSION}, imagehash {version('imagehash')}, {'mirrored too' if mirror else 'not mirrored'}"
    known = remembered(subject, "near", of, FIELDS, measured)
    return Pairs(known["rows"], known["mirrored"], known["bits"], known["alike"], complete=bool(known["complete"]))


def _several_classes(subject: Subject, group: Group) -> bool:
    return len(np.unique(subject.snapshot.labels[list(group)])) > 1
