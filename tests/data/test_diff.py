"""What changed between two states of a data set, by content: every change is told, once, and nothing else."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import snapshot
from data.history.diff import EXAMPLES, Difference, diff
from data.history.records import OPEN, PARTS, Record, of_source

Row = tuple[str, str, str, str]  # content, label, part, file


def record(rows: Sequence[Row], *, split: bool = True) -> Record:
    classes = tuple(sorted({label for _, label, _, _ in rows}))
    return Record(
        fingerprint="f" * 64,
        classes=classes,
        digests=np.array([hashlib.sha256(content.encode()).digest() for content, *_ in rows], "S32"),
        labels=np.array([classes.index(label) for _, label, _, _ in rows], np.int32),
        parts=np.array([OPEN if part == "?" else PARTS.index(part) for _, _, part, _ in rows], np.int8),
        sizes=np.ones(len(rows), np.int64),
        files=[file for *_, file in rows],
        split=split,
    )


def told(found: Difference) -> dict[str, list[tuple[str, str | None, str | None, int]]]:
    """Of each kind that there is (class, before, after, count)."""
    return {
        kind: [(group.label, group.before, group.after, group.count) for group in found.groups(kind)]
        for kind, count in found.counts.items()
        if count
    }


BASE: list[Row] = [("1", "rose", "train", "rose/1"), ("2", "rose", "test", "rose/2"), ("3", "tulip", "val", "tulip/3")]


def test_the_same_pictures_are_no_difference():
    found = diff(record(BASE), record(BASE[::-1]))
    assert (told(found), found.unchanged, found.sentence) == ({}, 3, "nothing changed")


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([*BASE, ("4", "tulip", "train", "tulip/4")], {"added": [("tulip", None, None, 1)]}),
        (BASE[1:], {"removed": [("rose", None, None, 1)]}),
        ([*BASE[1:], ("1", "tulip", "train", "tulip/1")], {"relabelled": [("tulip", "rose", "tulip", 1)]}),
        ([*BASE[1:], ("1", "rose", "val", "rose/1")], {"moved": [("rose", "train", "val", 1)]}),
        ([*BASE[1:], ("1", "rose", "", "rose/1")], {"moved": [("rose", "train", "", 1)]}),
        ([*BASE[1:], ("1", "rose", "train", "rose/x")], {"renamed": [("rose", None, None, 1)]}),
        (
            [*BASE[1:], ("x", "rose", "train", "rose/1")],  # the file has another content: it is another picture
            {"added": [("rose", None, None, 1)], "removed": [("rose", None, None, 1)]},
        ),
        ([*BASE[1:], ("1", "tulip", "test", "tulip/x")], {"relabelled": [("tulip", "rose", "tulip", 1)]}),
        ([], {"removed": [("rose", None, None, 2), ("tulip", None, None, 1)]}),
    ],
)
def test_each_change_is_told_by_class_and_once(after, expected):
    assert told(diff(record(BASE), record(after))) == expected


def test_copies_are_counted_and_those_that_are_most_alike_are_the_same():
    copies: list[Row] = [("1", "rose", "train", f"rose/{name}") for name in "abc"]
    assert told(diff(record(copies), record(copies[:2]))) == {"removed": [("rose", None, None, 1)]}
    assert told(diff(record(copies[:1]), record(copies))) == {"added": [("rose", None, None, 2)]}
    found = diff(record(copies), record([*copies[1:], ("1", "tulip", "train", "tulip/a")]))
    assert told(found) == {"relabelled": [("tulip", "rose", "tulip", 1)]}
    (example,) = found.relabelled[0].examples
    assert example.before is not None
    assert example.after is not None
    assert (example.before.file, example.after.file) == ("rose/a", "tulip/a")
    assert found.unchanged == 2


def test_classes_that_came_and_went_are_named():
    after = [(content, "roses" if label == "rose" else label, part, file) for content, label, part, file in BASE]
    found = diff(record(BASE), record(after))
    assert (found.classes_added, found.classes_removed) == (("roses",), ("rose",))
    assert found.sentence == "2 relabelled"


def test_a_part_that_a_source_leaves_open_is_no_difference():
    stated = record([("1", "rose", "?", "rose/1"), *BASE[1:]], split=False)
    assert told(diff(stated, record(BASE))) == {}
    assert told(diff(record([BASE[0], ("2", "rose", "", "rose/2"), BASE[2]]), stated)) == {}
    assert told(diff(record([BASE[0], ("2", "rose", "val", "rose/2"), BASE[2]]), stated)) == {
        "moved": [("rose", "val", "test", 1)]
    }


def test_of_many_a_few_are_shown_and_all_are_counted():
    many: list[Row] = [(str(number), "rose", "train", f"rose/{number}") for number in range(1000)]
    (group,) = diff(record(BASE[2:]), record([*BASE[2:], *many])).added
    assert (group.count, len(group.examples)) == (1000, EXAMPLES)


def test_a_name_that_is_no_text_is_told_as_text():
    found = diff(record(BASE[:1]), record([*BASE[:1], ("4", "rose", "train", "rose/\udcff.png")]))
    assert "rose/?.png" in found.model_dump_json()


ROWS = st.lists(
    st.tuples(st.sampled_from("1234"), st.sampled_from("ab"), st.sampled_from(PARTS), st.sampled_from("xy"))
)


@pytest.mark.slow
@settings(max_examples=150)
@given(before=ROWS, after=ROWS)
def test_what_was_there_and_what_changed_make_what_is_there(before, after):
    found = diff(record(before), record(after))
    counts = found.counts
    assert len(before) - counts["removed"] + counts["added"] == len(after)
    assert found.unchanged + counts["relabelled"] + counts["moved"] + counts["renamed"] + counts["added"] == len(after)
    kept = Counter(row[0] for row in before) & Counter(row[0] for row in after)
    assert counts["removed"] == len(before) - kept.total()
    alike = Counter(row[:2] for row in before) & Counter(row[:2] for row in after)
    assert counts["relabelled"] == kept.total() - alike.total()
    labels = Counter(row[1] for row in before)
    for group in (*found.added, *found.relabelled):
        labels[group.label] += group.count
    for group in (*found.removed, *found.relabelled):
        labels[group.before or group.label] -= group.count
    assert +labels == Counter(row[1] for row in after)


CLASSES = ("a", "b", "c")
OPERATIONS = st.lists(st.sampled_from(["keep", "rename", "copy", "relabel", "edit", "remove"]), min_size=3, max_size=12)


def operate(root: Path, number: int, what: str) -> tuple[str, str] | None:
    """Does it to the file of this number; (class, class) of a relabelled one."""
    label, other = CLASSES[number % 3], CLASSES[(number + 1) % 3]
    file = root / label / f"{number}.png"
    match what:
        case "rename":
            file.rename(file.with_name(f"new {number}.png"))
        case "copy":
            shutil.copyfile(file, file.with_name(f"copy of {number}.png"))
        case "relabel":
            file.rename(root / other / file.name)
            return label, other
        case "edit":
            file.write_bytes(file.read_bytes()[::-1] + b"!")
        case "remove":
            file.unlink()
    return None


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(operations=OPERATIONS)
def test_whatever_is_done_to_a_folder_is_what_is_told(tmp_path_factory, operations):
    place = tmp_path_factory.mktemp("place")
    for label in CLASSES:
        (place / "pictures" / label).mkdir(parents=True)
        (place / "pictures" / label / "stays.png").write_bytes(f"stays in {label}".encode())
    for number in range(len(operations)):
        (place / "pictures" / CLASSES[number % 3] / f"{number}.png").write_bytes(f"picture {number}".encode())
    before = snapshot.take(place / "pictures", "toy", home=place)
    relabelled = Counter(
        change for number, what in enumerate(operations) if (change := operate(place / "pictures", number, what))
    )
    after = snapshot.take(place / "pictures", "toy", home=place, anew=True)
    found = diff(of_source(before), of_source(after))

    def by_class(*kinds: str) -> Counter[str]:
        return Counter(CLASSES[number % 3] for number, what in enumerate(operations) if what in kinds)

    for kind, expected in (
        ("added", by_class("copy", "edit")),
        ("removed", by_class("edit", "remove")),
        ("renamed", by_class("rename")),
    ):
        assert Counter({group.label: group.count for group in found.groups(kind)}) == expected
    assert Counter({(group.before, group.after): group.count for group in found.relabelled}) == relabelled
    assert found.moved == ()
    changed = set(operations) - {"keep", "rename"}
    assert (before.fingerprint != after.fingerprint) == bool(changed)  # a name is no content, all else is
