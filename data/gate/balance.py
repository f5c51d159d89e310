"""Rules about how many pictures the classes have."""

import numpy as np

from data.gate import words
from data.gate.config import Few, Imbalance
from data.gate.found import Found, Subject


def imbalance(subject: Subject, setting: Imbalance) -> Found | None:
    classes = subject.snapshot.classes
    counts = np.bincount(subject.snapshot.labels[subject.left], minlength=len(classes))
    if len(counts) < 2 or counts.max() <= setting.threshold * counts.min():
        return None
    most, least = int(counts.argmax()), int(counts.argmin())
    return Found(
        f"{classes[most]!r} has {counts[most]:,} pictures, {classes[least]!r} {counts[least]:,}; "
        "look at each class's recall, not at accuracy alone, or add pictures of the rare class"
    )


def few(subject: Subject, setting: Few) -> Found | None:
    """Copies count once: one picture cannot be both trained on and tested on."""
    snapshot = subject.snapshot
    num = int(snapshot.contents.max(initial=-1)) + 1
    contents = np.unique(snapshot.labels[subject.left] * np.int64(num) + snapshot.contents[subject.left])
    counts = np.bincount(contents // max(num, 1), minlength=len(snapshot.classes)).tolist()
    small = [f"{label!r} has {n}" for label, n in zip(snapshot.classes, counts, strict=True) if n < setting.threshold]
    if not small:
        return None
    return Found(
        f"each class needs at least {setting.threshold} different readable pictures: {words.few(small)}; "
        "add pictures or remove it"
    )
