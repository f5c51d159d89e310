"""Rules about groups: pictures of one patient, camera or session, which must not be in two parts."""

from collections import defaultdict

import numpy as np

from data.gate.config import GroupLeakage
from data.gate.found import Found, Spot, Subject
from data.gate.words import count, few
from data.layout import natural
from data.parting.pool import STRONGEST


def group_leakage(subject: Subject, setting: GroupLeakage) -> Found | None:
    """Groups of which the source states several parts. What it leaves open of a group follows the rest."""
    snapshot = subject.snapshot
    if not snapshot.groups:
        return None
    groups: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(subject.asked).tolist():
        if (group := snapshot.groups[row]) is not None and snapshot.parts[row] is not None:
            groups[group].append(row)
    names = [name for name, rows in groups.items() if len({snapshot.parts[row] for row in rows}) > 1]
    twice = {name: groups[name] for name in sorted(names, key=natural)}
    if not twice:
        return None
    spots: list[Spot] = []
    for rows in twice.values():
        stays = next(part for part in STRONGEST if part in {snapshot.parts[row] for row in rows})
        spots += [Spot(row, advice="drop, or keep, where meant") for row in rows if snapshot.parts[row] != stays]
    remedy = (
        "only what the test part has of them is used, or that of val where test has none"
        if setting.level == "drop"
        else "keep each in one part, or set dataset.gate.group_leakage.level to drop, by which test keeps what it has"
    )
    message = f"{count(len(twice), 'group')} in more than one of train, val and test ({few(twice)}); {remedy}"
    return Found(message, tuple(spots), tuple(tuple(rows) for rows in twice.values()))
