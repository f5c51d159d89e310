"""What is wrong with a data set is told in a sentence each, before time is spent."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from data import snapshot, validate
from data.gate import judge
from data.gate.quarantine import NOTHING, Decision, Decisions, file_of
from data.images import Images, Unreadable
from data.spec import DatasetSpec, ImageSpec
from data.split import assign
from data.validate import Finding, ValidationReport

SPEC = DatasetSpec()


def gate(**levels: str) -> DatasetSpec:
    """gate(copies="drop")"""
    return DatasetSpec.model_validate({"gate": {rule: {"level": level} for rule, level in levels.items()}})


@pytest.fixture
def take(write, home):
    return lambda files, decisions=NOTHING: snapshot.take(write(files), "flowers", True, home=home, decisions=decisions)


@pytest.fixture
def listed(take, home):
    """Files -> what is found before anything is decoded."""

    def run(files: dict[str, bytes | None], spec: DatasetSpec = SPEC) -> dict[str, Finding]:
        subject = validate.subject_of(take(files), spec, home, NOTHING)
        return {rule: seen.finding for rule, seen in validate.check_listing(subject, NOTHING)[0].items()}

    return run


@pytest.fixture
def check(take, home):
    """Files -> report, with pictures that are not decoded; `bad` cannot be read, `said` is what a person decided."""

    def run(
        files: dict[str, bytes | None],
        bad: tuple[str, ...] = (),
        spec: DatasetSpec = SPEC,
        said: dict[bytes, str] | None = None,
    ) -> ValidationReport:
        decisions = decided(file_of(home, "flowers"), said or {})
        found = take(files, decisions)
        rows = np.array([row for row, file in enumerate(found.files) if file not in bad])
        pixels = np.zeros((len(rows), 1, 1, 1), np.uint8)
        unreadable = tuple(Unreadable(file, "truncated") for file in bad)
        images = Images(found, ImageSpec(height=8, width=9, channels=1), rows, pixels, unreadable)
        told, subject = validate.check_listing(validate.subject_of(found, spec, home, decisions), decisions)
        more, subject = validate.check_images(subject, images)
        told |= more
        split, dropped, _ = judge.carried_out(told, assign(images, spec, home), subject)
        told |= validate.check_split(subject, split)[0]
        return validate.report(images, split, told, dropped)

    return run


def decided(file: Path, said: dict[bytes, str]) -> Decisions:
    """Content -> keep, drop or the name of a class."""
    found = {}
    for line, (content, what) in enumerate(said.items(), start=2):
        known = what if what in ("keep", "drop") else "label"
        found[hashlib.sha256(content).hexdigest()] = Decision(known, "" if known == what else what, line)
    return Decisions(file, found)


def some(**counts: int) -> dict[str, bytes | None]:
    return {f"{name.replace('__', '/')}/{i}.png": None for name, n in counts.items() for i in range(n)}


def by_rule(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.rule: finding for finding in findings}


def test_a_good_data_set_has_no_findings(check):
    report = check(some(rose=20, tulip=20))
    assert report.findings == ()
    assert report.ok
    assert (report.num_examples, report.num_unreadable) == (40, 0)
    assert (report.height, report.width, report.channels) == (8, 9, 1)
    assert [(c.label, c.train, c.val, c.test) for c in report.classes] == [("rose", 15, 2, 3), ("tulip", 15, 2, 3)]


@pytest.mark.parametrize(
    ("files", "rule", "sentence"),
    [
        ({}, "no_pictures", "holds no files; put JPEG, PNG"),
        (
            {"rose/1.txt": b"x", "2.png": b"x"},
            "no_pictures",
            "holds only 2 files, and no picture in a class folder; put",
        ),
        (some(rose=5), "one_class", "has one class only, 'rose'; a classifier needs at least two"),
        (some(rose=5, tulip=2), "few", "at least 3 different readable pictures: 'tulip' has 2; add pictures"),
        (some(test__rose=5, test__tulip=5), "test_only", "nothing to train on; add a train folder"),
    ],
)
def test_what_cannot_be_trained_on_stops_before_decoding(listed, files, rule, sentence):
    finding = listed(files)[rule]
    assert finding.level == "stop"
    assert sentence in finding.message


def test_copies_do_not_make_a_class_large_enough(listed):
    finding = listed(some(rose=5) | {f"tulip/{i}.png": b"same" for i in range(4)})
    assert "'tulip' has 1" in finding["few"].message


def test_unreadable_pictures_are_listed_and_left_out(check):
    finding = by_rule(check(some(rose=30, tulip=30), bad=("rose/3.png",)).findings)["unreadable"]
    assert finding.level == "drop"
    assert finding.message.startswith("1 of 60 pictures (1.7%) cannot be read and are left out, such as rose/3.png")
    assert finding.files == ("rose/3.png",)


def test_too_many_unreadable_pictures_stop_the_run(check):
    bad = tuple(f"rose/{i}.png" for i in range(6))
    report = check(some(rose=30, tulip=30), bad=bad)
    assert not report.ok
    finding = by_rule(report.findings)["unreadable"]
    assert "6 of 60 pictures (10.0%) cannot be read, more than dataset.max_unreadable 0.05 allows" in finding.message
    assert set(finding.files) == set(bad)
    assert check(some(rose=30, tulip=30), bad=bad, spec=DatasetSpec(max_unreadable=0.1)).ok


def test_a_class_that_shrinks_below_three_readable_pictures_stops(check):
    report = check(some(rose=40, tulip=3), bad=("tulip/0.png",), spec=DatasetSpec(max_unreadable=1))
    assert "'tulip' has 2" in by_rule(report.findings)["few"].message
    assert not report.ok


def test_copies_within_a_class_and_across_classes_are_warned_of(check, png):
    finding = by_rule(check(some(rose=20, tulip=20) | {"rose/copy.png": png(0)}).findings)["copies"]
    assert (finding.level, finding.count, len(finding.files)) == ("warn", 1, 1)
    assert [set(group) for group in finding.groups] == [{"rose/0.png", "rose/copy.png"}]
    finding = by_rule(check({"tulip/copy.png": png(1)}).findings)["contradictions"]  # number 0 is tulip/copy.png
    assert finding.level == "warn"
    assert set(finding.files) == {"rose/1.png", "tulip/copy.png"}
    assert [set(group) for group in finding.groups] == [set(finding.files)]


def test_a_picture_in_two_parts_is_leakage(check, png):
    parts = some(train__rose=9, train__tulip=9, test__rose=4, test__tulip=4)
    report = check(parts | {"test/rose/leak.png": png(2)})
    finding = by_rule(report.findings)["leakage"]
    assert finding.level == "drop"
    assert set(finding.files) == {"train/rose/2.png", "test/rose/leak.png"}
    assert sum(c.train + c.val for c in report.classes) == 17
    assert [one.model_dump() for one in report.dropped] == [
        {"rule": "leakage", "train": 1, "val": 0, "test": 0, "stay": 0}
    ]


def test_imbalance_beyond_ten_to_one_is_warned_of(check):
    assert "imbalance" not in by_rule(check(some(rose=40, tulip=4)).findings)
    finding = by_rule(check(some(rose=41, tulip=4)).findings)["imbalance"]
    assert (finding.level, "'rose' has 41 pictures, 'tulip' 4" in finding.message) == ("warn", True)


def test_ignored_files_are_noted_and_empty_classes_warned_of(check):
    found = by_rule(check(some(rose=9, tulip=9) | {"iris/1.heic": b"x", "a.csv": b""}).findings)
    assert found["ignored"].level == "note"
    assert found["ignored"].files == ("a.csv", "iris/1.heic")
    assert found["ignored"].message.startswith("2 files ignored")
    assert found["empty_classes"].level == "warn"
    assert found["empty_classes"].message.startswith("1 folder without pictures, so no class: iris/")


def test_a_class_that_is_only_in_test_is_warned_of(check):
    found = by_rule(check(some(train__rose=9, train__tulip=9, test__rose=3, test__iris=3)).findings)
    assert found["never_trained"].message.startswith("no picture of 'iris' is trained on")
    assert found["missing_in_test"].message.startswith("the test part has no picture of 'tulip'")


def test_a_finding_lists_at_most_fifty_files(check):
    finding = by_rule(check(some(rose=9, tulip=9) | {f"{i:03}.txt": b"" for i in range(70)}).findings)["ignored"]
    assert len(finding.files) == 50
    assert "70 files" in finding.message


def test_every_message_is_one_line_and_the_report_is_json(check):
    report = check(some(rose=41, tulip=4) | {"a.csv": b"", "iris/x.heic": b""}, bad=("rose/1.png",))
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report
    assert all("\n" not in finding.message for finding in report.findings)
