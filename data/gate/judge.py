"""From what rules found to what follows: the levels, carried out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.frozen import Frozen
from data.gate.found import LISTED, Finding, Found, Spot, Subject, finding
from data.gate.words import count
from data.snapshot import Snapshot
from data.spec import Part
from data.split import Split

MOST = 0.2  # of a class's different pictures that one rule may drop
QUARANTINE = "quarantine"  # the rule, where a person decided

Rule = Callable[[Subject, Any], Found | None]


@dataclass(frozen=True)
class Seen:
    """What a rule found, judged."""

    finding: Finding
    spots: tuple[Spot, ...] = ()
    out: tuple[int, ...] = ()  # rows of the snapshot that are to be in no part


class Dropped(Frozen):
    """Pictures that one rule, or a person, took out of each part."""

    rule: str
    train: int
    val: int
    test: int  # only a person, or a copy that another part keeps
    stay: int  # of the test part, which no rule makes easier: found and left there

    @property
    def said(self) -> str:
        """`3 train, 1 test`."""
        parts = (("train", self.train), ("validation", self.val), ("test", self.test), ("of test stay", self.stay))
        return ", ".join(f"{number:,} {part}" for part, number in parts if number)


def look(rules: Mapping[str, Rule], subject: Subject) -> tuple[dict[str, Seen], Subject]:
    """Each rule in turn, on what those before it have left; none that is ignored."""
    seen: dict[str, Seen] = {}
    for name, rule in rules.items():
        setting = getattr(subject.spec.gate, name)
        found = None if setting.level == "ignore" else rule(subject, setting)
        if found is not None:
            seen[name] = judged(name, setting.level, found, subject)
            subject = subject.without(seen[name].out)
    return seen, subject


def judged(name: str, level: Any, found: Found, subject: Subject) -> Seen:
    """`level`: as the setting says."""
    out = tuple(spot.row for spot in found.spots if spot.dropped) if level == "drop" else ()
    message = found.message
    if found.refused:
        level = "stop"
    elif (refusal := too_much(name, out, subject)) is not None:
        level, message = "stop", refusal
    names = subject.snapshot.files  # of as many as a report lists
    groups = [[names[row] for row in rows[:LISTED]] for rows in found.groups[:LISTED]]
    files = [names[spot.row] for spot in found.spots[:LISTED]]
    seen = finding(name, level, message, files, groups).model_copy(update={"count": len(found.spots)})
    return Seen(seen, found.spots, out)


def too_much(name: str, out: Iterable[int], subject: Subject) -> str | None:
    """The refusal, if a rule would take more than a share `MOST` of the different pictures of a class, those of a test
    part that the source states aside. Damaged files count each, wherever they are: empty ones are all alike."""
    snapshot = subject.snapshot
    damaged = name in ("unreadable", "truncated")
    counted = subject.left if damaged else subject.left & ~_tested(snapshot)
    gone = np.zeros(len(counted), bool)
    gone[list(out)] = True
    gone &= counted
    most = max(MOST, subject.spec.max_unreadable) if damaged else MOST
    losses = []
    for label in np.unique(snapshot.labels[gone]).tolist():
        of_it = counted & (snapshot.labels == label)
        rows, stay = np.flatnonzero(of_it), np.flatnonzero(of_it & ~gone)
        before, after = (len(some if damaged else np.unique(snapshot.contents[some])) for some in (rows, stay))
        losses.append(((before - after) / before, before - after, before, snapshot.classes[label]))
    share, lost, total, label_name = max(losses, default=(0.0, 0, 0, ""))
    if share <= most:
        return None
    counted, remedy = (
        ("files", "replace them, or allow more with dataset.max_unreadable")
        if damaged
        else (
            "different pictures",
            f"look at them, and set dataset.gate.{name}.level to warn, or decide each of them in the quarantine list",
        )
    )
    return (
        f"dataset.gate.{name} would drop {share:.0%} of {label_name!r} ({lost:,} of {total:,} {counted}), "
        f"more than the {most:.0%} that a rule may; {remedy}"
    )


def _tested(snapshot: Snapshot) -> np.ndarray:
    """(N,) bool: contents of the test part that the source states: no rule takes them from there, and elsewhere they
    are in no part anyway."""
    return np.isin(
        snapshot.contents, snapshot.contents[snapshot.stated.by(lambda part: part is Part.TEST).astype(bool)]
    )


def decided(subject: Subject, *, relabelled: int, where: str) -> dict[str, Seen]:
    """What a person decided, told: `subject.left` lacks what was dropped, before any rule was asked."""
    out = tuple(np.flatnonzero(~subject.left).tolist())
    said = [f"{count(out, 'picture')} left out"] if out else []
    said += [f"{count(relabelled, 'picture')} given another class"] if relabelled else []
    if not said:
        return {}
    files = [subject.snapshot.files[row] for row in out[:LISTED]]
    message = f"{' and '.join(said)} by your decision in {where}"
    seen = finding(QUARANTINE, "note", message, files).model_copy(update={"count": len(out)})
    return {QUARANTINE: Seen(seen, out=out)}


def carried_out(
    seen: Mapping[str, Seen], split: Split, subject: Subject
) -> tuple[Split, tuple[Dropped, ...], tuple[str, ...]]:
    """The split without what was dropped, how much of each part that was, and the digests of what went, sorted. Parts
    are decided before, so that a picture that is let in again has its old one."""
    assert subject.images is not None
    place = np.full(len(subject.snapshot.files), -1, dtype=np.int64)
    place[subject.images.rows] = np.arange(len(subject.images.rows))
    codes, parts = np.full(len(subject.images.rows), -1, np.int8), (*Part, None)  # -1 is the last
    for code, part in enumerate(Part):
        codes[getattr(split, part)] = code
    gone: list[int] = []
    told: list[Dropped] = []
    for name, one in seen.items():
        counts, stay = dict.fromkeys(Part, 0), 0
        for row, here in zip(one.out, place[list(one.out)].tolist(), strict=True):
            assigned = parts[codes[here]] if here >= 0 else None
            was = (assigned or subject.snapshot.parts[row]) if here >= 0 else None  # unreadable: never in one
            if was is None:
                continue
            if assigned is Part.TEST and name != QUARANTINE:
                stay += 1
            else:
                counts[was] += 1
                gone += [here] if assigned is not None else []  # else the split has it in no part already
        if any(counts.values()) or stay:
            told.append(Dropped(rule=name, stay=stay, **{part.value: counts[part] for part in Part}))
    digests = tuple(sorted(subject.images.digest(here) for here in gone))
    return split.without(np.array(gone, dtype=np.int64)), tuple(told), digests
