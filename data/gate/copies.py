"""Rules about files of the same bytes: within a class, in several classes, in several parts."""

import numpy as np

from data.gate.config import Contradictions, Copies, Leakage
from data.gate.found import Found, Spot, Subject
from data.gate.words import count
from data.split import STRONGEST


def contradictions(subject: Subject, setting: Contradictions) -> Found | None:  # noqa: ARG001 - as every rule
    """Nobody knows which class is right, so nothing of it can be trusted."""
    snapshot = subject.snapshot
    same = same_content(subject, subject.asked)
    twice = [rows for rows in same if len({int(snapshot.labels[row]) for row in rows}) > 1]
    if not twice:
        return None
    spots = []
    for rows in twice:
        labels = [snapshot.classes[label] for label in sorted({int(snapshot.labels[row]) for row in rows})]
        advice = "drop, or " + " or ".join(f"label={label}" for label in labels)
        spots += [Spot(row, advice=advice) for row in rows]
    message = f"{count(twice, 'picture')} in more than one class; keep each in the class it belongs to"
    return Found(message, tuple(spots), tuple(twice))


def leakage(subject: Subject, setting: Leakage) -> Found | None:  # noqa: ARG001
    """Copies in two parts: the one of the weaker part (train, then val) is in none, see `split.Split`. No decision of a
    person's alters that, so it is told whatever was decided."""
    snapshot = subject.snapshot
    twice = [rows for rows in same_content(subject, subject.left) if len({snapshot.parts[row] for row in rows}) > 1]
    if not twice:
        return None
    spots = []
    for rows in twice:
        stays = snapshot.parts[min(rows, key=lambda row: strength(subject, row))]
        advice = f"remove the files outside {stays}, or drop"
        spots += [Spot(row, advice=advice, dropped=snapshot.parts[row] != stays) for row in rows]
    message = (
        f"{count(twice, 'picture')} in more than one of train, val and test; "
        "only the test copy is used, or that of val where test has none; remove the others"
    )
    return Found(message, tuple(spots), tuple(twice))


def copies(subject: Subject, setting: Copies) -> Found | None:
    """One of each content stays: that of the strongest part, the first by name."""
    snapshot = subject.snapshot
    same = same_content(subject, subject.asked)
    same = [rows for rows in same if len({int(snapshot.labels[row]) for row in rows}) == 1]
    if not same:
        return None
    same = [tuple(sorted(rows, key=lambda row: (strength(subject, row), row))) for rows in same]
    spots = tuple(Spot(row, advice="keep, where meant") for rows in same for row in rows[1:])
    dropped = "each picture counts once" if setting.level == "drop" else "remove them to count each picture once"
    return Found(f"{count(spots, 'copied file')} within a class; {dropped}", spots, tuple(same))


def same_content(subject: Subject, among: np.ndarray) -> list[tuple[int, ...]]:
    """Rows that share their content, where there are several, in the order of their first; among: (N,) bool."""
    asked = np.flatnonzero(among)
    contents = subject.snapshot.contents[asked]
    several = np.bincount(contents, minlength=1)[contents] > 1
    rows, contents = asked[several], contents[several]
    order = np.argsort(contents, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(contents[order])) + 1) if len(rows) else []
    return sorted(tuple(group.tolist()) for group in groups)


def strength(subject: Subject, row: int) -> int:
    """Of the part that the source states: the least is that which keeps a picture; the greatest, where none is."""
    part = subject.snapshot.parts[row]
    return len(STRONGEST) if part is None else STRONGEST.index(part)
