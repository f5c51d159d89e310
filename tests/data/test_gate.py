"""Levels and thresholds: what each rule of the gate may decide, and what it never does."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data import validate
from data.errors import DataRefused
from data.gate import judge
from data.gate.config import GateConfig
from data.gate.files import ends_early
from data.gate.found import Finding
from data.gate.quarantine import NOTHING
from data.images import Images
from data.prepare import Dataset, inspect, prepare
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec, Part
from data.split import Split, assign
from data.validate import ValidationReport

Files = dict[str, bytes | None]
TABLES = (
    validate.OF_THE_LISTING,
    validate.OF_THE_FILES,
    validate.OF_THE_PICTURES,
    validate.OF_THE_PARTS,
    validate.OF_THE_SPLIT,
)
ELSEWHERE = {"classes_changed", "labels"}  # asked by data/history, and once a network has answered


def some(n: int = 20, part: str = "", classes: tuple[str, ...] = ("rose", "tulip")) -> Files:
    return {f"{part}{name}/{i}.png": None for name in classes for i in range(n)}


@pytest.fixture
def flowers(write):
    """flowers(files, copies="drop", few=5): a level, or a threshold."""

    def spec(files: Files, **gate: str | float) -> DatasetSpec:
        chosen = {rule: {"level" if isinstance(value, str) else "threshold": value} for rule, value in gate.items()}
        source = str(write(files))
        return DatasetSpec.model_validate({"source": source, "name": "flowers", "size": 8, "gate": chosen})

    return spec


def found(report: ValidationReport) -> dict[str, Finding]:
    return {finding.rule: finding for finding in report.findings}


def names(dataset: Dataset, rows: np.ndarray) -> set[str]:
    return {dataset.images.snapshot.files[dataset.images.rows[row]] for row in rows}


def test_every_setting_of_the_gate_is_a_rule_that_is_asked_and_every_rule_has_a_setting():
    assert {name for table in TABLES for name in table} | ELSEWHERE == set(GateConfig.model_fields)


@pytest.mark.parametrize(
    ("rule", "level"),
    [("leakage", "ignore"), ("leakage", "warn"), ("unreadable", "ignore"), ("imbalance", "drop"), ("shift", "drop")],
)
def test_a_level_that_a_rule_cannot_carry_out_is_not_offered(rule: str, level: str):
    with pytest.raises(ValidationError, match="Input should be"):
        GateConfig.model_validate({rule: {"level": level}})


def test_what_is_ignored_is_not_told_and_changes_nothing(flowers, home, png):
    files = some() | {"rose/copy.png": png(0), "tulip/also.png": png(1)}
    told = prepare(flowers(files), home)
    silent = prepare(flowers(files, copies="ignore", contradictions="ignore"), home)
    assert found(told.report).keys() == {"copies", "contradictions"}
    assert silent.report.findings == ()
    assert silent.images.snapshot.fingerprint == told.images.snapshot.fingerprint
    np.testing.assert_array_equal(silent.split.train, told.split.train)


def test_what_is_stopped_is_refused_with_the_rules_sentence(flowers, home, png):
    spec = flowers(some() | {"rose/copy.png": png(0)}, copies="stop")
    with pytest.raises(DataRefused, match="1 copied file within a class; remove them"):
        prepare(spec, home)
    assert not inspect(spec, home).ok


def test_dropped_copies_leave_one_picture_of_each_content(flowers, home, png):
    copies = {f"train/rose/copy{i}.png": png(0) for i in range(3)}
    files = some(12, "train/") | some(5, "test/") | copies
    with_them, without = prepare(flowers(files), home), prepare(flowers(files, copies="drop"), home)
    same = {"train/rose/0.png", *copies}
    assert names(with_them, with_them.split.development) >= same
    assert len(names(without, without.split.development) & same) == 1
    assert without.images.pixels.shape == with_them.images.pixels.shape  # nothing is decoded again
    assert found(without.report)["copies"].level == "drop"
    assert found(without.report)["copies"].message == "3 copied files within a class; each picture counts once"


@pytest.mark.slow
def test_what_was_dropped_is_counted_by_part_and_is_part_of_the_fingerprint(flowers, home, png):
    files = some(12, "train/") | some(5, "val/") | some(5, "test/")
    clean = prepare(flowers(files), home)
    assert prepare(flowers(files, contradictions="drop"), home).report == clean.report
    files |= {"train/rose/odd.png": png(900), "train/tulip/odd.png": png(900)}
    files |= {"val/rose/odd.png": png(901), "val/tulip/odd.png": png(901)}
    files |= {"test/rose/odd.png": png(902), "test/tulip/odd.png": png(902)}
    told, dropped = prepare(flowers(files), home), prepare(flowers(files, contradictions="drop"), home)
    assert [one.model_dump() for one in dropped.report.dropped] == [
        {"rule": "contradictions", "train": 2, "val": 2, "test": 0, "stay": 2}
    ]
    assert dropped.report.dropped[0].said == "2 train, 2 validation, 2 of test stay"
    assert sum(count.train for count in dropped.report.classes) == 24
    assert told.report.fingerprint != dropped.report.fingerprint == dropped.images.snapshot.fingerprint


def test_no_rule_takes_away_a_test_picture(flowers, home, png):
    files = some(12, "train/") | some(5, "test/")
    files |= {"test/rose/odd.png": png(900), "test/tulip/odd.png": png(900), "test/rose/copy.png": png(24)}
    dataset = prepare(flowers(files, contradictions="drop", copies="drop"), home)
    assert names(dataset, dataset.split.test) == {file for file in files if file.startswith("test/")}
    assert {one.rule: one.stay for one in dataset.report.dropped} == {"contradictions": 2, "copies": 1}


@pytest.mark.slow
def test_a_picture_that_is_let_in_again_has_its_old_part(flowers, home, png):
    files = some() | {"rose/odd.png": png(900), "tulip/odd.png": png(900)}
    before = prepare(flowers(files), home).split
    prepare(flowers(files, contradictions="drop"), home)
    after = prepare(flowers(files), home).split
    for part in Part:
        np.testing.assert_array_equal(getattr(before, part), getattr(after, part))


@pytest.mark.parametrize(("odd", "refused"), [(5, False), (6, True)])
def test_a_rule_that_would_drop_more_than_a_fifth_of_a_class_stops(flowers, home, png, odd: int, refused: bool):
    files = some(20, classes=("rose",)) | some(90, classes=("tulip",))
    files |= {f"{name}/odd{i}.png": png(900 + i) for name in ("rose", "tulip") for i in range(odd)}
    spec = flowers(files, contradictions="drop")
    if not refused:
        assert prepare(spec, home).report.ok
        return
    sentence = (
        "dataset.gate.contradictions would drop 23% of 'rose' (6 of 26 different pictures), more than the 20% that "
        "a rule may; look at them, and set dataset.gate.contradictions.level to warn"
    )
    with pytest.raises(DataRefused, match=re.escape(sentence)):
        prepare(spec, home)


def test_what_drop_leaves_in_a_stated_test_part_is_no_loss(flowers, home, png):
    """Neither is it counted among what there is to lose."""
    files = some(12, "train/") | some(8, "test/")
    odd = {f"test/{name}/odd{i}.png": png(900 + i) for name in ("rose", "tulip") for i in range(8)}
    dataset = prepare(flowers(files | odd, contradictions="drop"), home)
    assert [(one.train, one.stay) for one in dataset.report.dropped] == [(0, 16)]
    odd |= {f"train/{name}/odd{i}.png": png(800 + i) for name in ("rose", "tulip") for i in range(4)}
    with pytest.raises(DataRefused, match=r"contradictions would drop 25% of 'tulip' \(4 of 16 different pictures\)"):
        prepare(flowers(files | odd, contradictions="drop"), home / "another")


def test_pictures_that_leaked_out_of_a_stated_test_part_are_no_loss(flowers, home):
    files = some(12, "train/") | some(8, "test/")
    source = Path(flowers(files).source)
    for i in range(8):
        (source / f"train/rose/leak{i}.png").write_bytes((source / f"test/rose/{i}.png").read_bytes())
    assert found(prepare(flowers({}), home).report)["leakage"].level == "drop"


def test_copies_are_no_loss_however_many_they_are(flowers, home, png):
    files = some() | {f"rose/copy{i}.png": png(0) for i in range(30)}
    assert prepare(flowers(files, copies="drop"), home).report.ok


@pytest.mark.slow
def test_unreadable_pictures_of_one_class_stop_though_they_are_few_of_all(flowers, home):
    files = some(9, classes=("rose",)) | some(90, classes=("tulip",)) | {f"rose/b{i}.png": b"text" for i in range(3)}
    with pytest.raises(DataRefused, match=r"unreadable would drop 25% of 'rose' .* allow more with dataset.max_unread"):
        prepare(flowers(files), home)
    assert prepare(flowers(files).model_copy(update={"max_unreadable": 0.25}), home).report.ok


@pytest.mark.slow
def test_files_that_end_too_early_are_told_from_other_damage(flowers, home, png):
    whole = png(0, side=40)
    files = some(60) | {"rose/cut.png": whole[: len(whole) // 2], "rose/empty.png": b"", "tulip/text.png": b"text"}
    findings = found(prepare(flowers(files), home).report)
    assert set(findings["truncated"].files) == {"rose/cut.png", "rose/empty.png"}
    assert findings["truncated"].message.startswith("2 picture files without an end (truncated), left out, such as")
    assert findings["unreadable"].files == ("tulip/text.png",)
    with pytest.raises(DataRefused, match="without an end"):
        prepare(flowers(files, truncated="stop"), home)
    with pytest.raises(DataRefused, match=r"1 of 123 pictures \(0.8%\) cannot be read"):
        prepare(flowers(files, unreadable="stop"), home)


@pytest.mark.parametrize("suffix", ["jpeg", "png", "gif", "webp", "bmp"])
def test_where_a_picture_file_ends_its_format_says(tmp_path: Path, suffix: str):
    from PIL import Image

    file = tmp_path / f"a.{suffix}"
    Image.effect_noise((64, 64), 90).convert("L").save(file)
    assert not ends_early(file)
    file.write_bytes(file.read_bytes()[:-500])
    assert ends_early(file)
    assert not ends_early(tmp_path / "nowhere.png")


def test_thresholds_of_the_counts_are_settings(flowers, home):
    files = some(30, classes=("rose",)) | some(4, classes=("tulip",))
    assert found(prepare(flowers(files), home).report).keys() == set()
    findings = found(inspect(flowers(files, imbalance=5.0, few=5), home))
    assert (findings["imbalance"].level, findings["few"].level) == ("warn", "stop")
    assert "each class needs at least 5 different readable pictures: 'tulip' has 4" in findings["few"].message


def test_few_pictures_can_be_let_through(flowers, home):
    dataset = prepare(flowers(some(9) | {"iris/1.png": None}, few="warn"), home)
    assert found(dataset.report)["few"].level == "warn"
    assert "'iris' has 1" in found(dataset.report)["few"].message


def test_a_picture_in_two_classes_is_no_copy_as_well(flowers, home, png):
    files = some() | {"rose/odd.png": png(900), "tulip/odd.png": png(900), "tulip/odd2.png": png(900)}
    assert found(prepare(flowers(files), home).report).keys() == {"contradictions"}


def grey(level: int, seed: int) -> bytes:
    import io

    from PIL import Image

    pixels = np.random.default_rng(seed).normal(level, 20, (12, 12)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def night(test_level: int) -> Files:
    files: Files = {}
    for number, name in enumerate(("rose", "tulip")):
        files |= {f"train/{name}/{i}.png": grey(150, 1000 * number + i) for i in range(60)}
        files |= {f"test/{name}/{i}.png": grey(test_level, 1000 * number + 500 + i) for i in range(20)}
    return files


@pytest.mark.slow
def test_test_pictures_of_another_kind_are_told_of_before_training(flowers, home):
    findings = found(prepare(flowers(night(90)), home).report)
    assert findings["shift"].level == "warn"
    assert "simple statistics tell which is which in 100% of the cases" in findings["shift"].message
    assert "most of all brightness" in findings["shift"].message
    with pytest.raises(DataRefused, match="differ in kind"):
        prepare(flowers(night(90), shift="stop"), home)


@pytest.mark.slow
def test_test_pictures_of_the_same_kind_are_not_and_the_measure_is_remembered(flowers, home):
    spec = flowers(night(150))
    assert prepare(spec, home).report.findings == ()
    (file,) = (home / "images").glob("*/shift.json")
    known = json.loads(file.read_text())
    assert 0.3 < known["shift"]["separability"] < 0.7
    for separability, p_value, least in ((0.99, 0.0, 0.8), (0.7, 0.0, 0.6)):
        known["shift"] |= {"separability": separability, "p_value": p_value}
        file.write_text(json.dumps(known))  # which is read, not measured again
        assert found(prepare(flowers(night(150), shift=least), home).report).keys() == {"shift"}
    for separability, p_value in ((0.7, 0.0), (0.99, 0.02)):
        known["shift"] |= {"separability": separability, "p_value": p_value}
        file.write_text(json.dumps(known))
        assert prepare(spec, home).report.findings == ()
    file.write_text("{")
    assert prepare(spec, home).report.findings == ()
    prepare(flowers(night(90), shift="ignore"), home)
    assert len(list((home / "images").glob("*/shift.json"))) == 1


def listing(rows: list[tuple[int, str, Part | None]]) -> Images:
    rows = sorted(rows, key=lambda row: row[:2])
    snapshot = Snapshot(
        name="flowers",
        root=Path("/nowhere"),
        classes=("a", "b", "c"),
        files=tuple(f"{i}.png" for i in range(len(rows))),
        labels=np.array([row[0] for row in rows], dtype=np.int64),
        digests=tuple(hashlib.sha256(row[1].encode()).hexdigest() for row in rows),
        sizes=np.ones(len(rows), dtype=np.int64),
        parts=tuple(row[2] for row in rows),
        mirror=True,
    )
    pixels = np.zeros((len(rows), 1, 1, 1), np.uint8)
    return Images(snapshot, ImageSpec(height=1, width=1, channels=1), np.arange(len(rows)), pixels, ())


def gated(images: Images, spec: DatasetSpec, home: Path) -> Split:
    told, subject = validate.check_listing(validate.subject_of(images.snapshot, spec, home, NOTHING), NOTHING)
    _, subject = validate.check_images(subject, images)
    return judge.carried_out(told, assign(images, spec, home), subject)[0]


@pytest.mark.slow
@settings(max_examples=60)
@given(data=st.data())
def test_what_drop_leaves_is_the_split_as_it_was_but_for_pictures_to_train_on(tmp_path_factory, data):
    parts = data.draw(st.sampled_from([(None,), (Part.TRAIN, Part.TEST), tuple(Part), (Part.TRAIN, Part.VAL)]))
    row = st.tuples(st.integers(0, 2), st.integers(0, 12).map(str), st.sampled_from(parts))
    plain = [(label, f"{label}-{i}-{part}", part) for label in range(3) for i in range(6) for part in parts]
    images, home = listing(data.draw(st.lists(row, max_size=60)) + plain), tmp_path_factory.mktemp("home")
    levels = {"copies": "drop", "contradictions": "drop", "odd_size": "ignore", "odd_aspect": "ignore"}
    drop = DatasetSpec.model_validate({"gate": {rule: {"level": level} for rule, level in levels.items()}})
    before, after = assign(images, DatasetSpec(), home), gated(images, drop, home)
    np.testing.assert_array_equal(before.test, after.test)
    assert set(after.train) <= set(before.train)
    assert set(after.val) <= set(before.val)
    for rows in (after.train, after.val):
        contents = [images.digest(row) for row in rows]
        assert len(contents) == len(set(contents))  # one of each, in one class
    trained = {images.digest(row) for row in before.development}
    classes = {digest: len({int(images.labels[i]) for i in range(len(images.rows)) if images.digest(i) == digest})
               for digest in trained}  # fmt: skip
    assert {images.digest(row) for row in after.development} == {d for d, n in classes.items() if n == 1}
