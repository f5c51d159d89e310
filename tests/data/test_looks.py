"""Pictures that look wrong, or nearly the same: found by their rules, told, and left out where that is asked for."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import DataRefused
from data.gate import near, quality
from data.gate.found import Finding
from data.gate.quarantine import file_of
from data.prepare import Dataset, prepare
from data.spec import DatasetSpec
from data.split import folds
from data.validate import ValidationReport

SIDE = 48
NEAR = ("near", "near_contradictions", "near_leakage")


def scene(seed: int) -> Image.Image:
    """Soft blots of all brightnesses under grain; another seed, another scene."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), float)
    return Image.fromarray((soft + random.normal(0, 20, soft.shape)).clip(0, 255).astype(np.uint8))


def soft_spot() -> Image.Image:
    """Bright in the middle, dark around, and no edge anywhere."""
    wave = np.cos(np.linspace(-np.pi / 2, np.pi / 2, SIDE))
    return Image.fromarray((20 + 220 * wave[:, None] * wave).astype(np.uint8)).convert("RGB")


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def again(seed: int) -> bytes:
    """The scene, as another program would save it."""
    out = io.BytesIO()
    scene(seed).save(out, "JPEG", quality=75)
    return out.getvalue()


FAULTS: dict[str, Callable[[], Image.Image]] = {
    "dark": lambda: scene(900).point(lambda value: value // 8),
    "light": lambda: scene(901).point(lambda value: 255 - (255 - value) // 8),
    "blank": lambda: Image.new("RGB", (SIDE, SIDE), (128, 128, 128)),
    "blurred": soft_spot,
    "odd_size": lambda: scene(903).resize((SIDE * 9, SIDE * 9)),
    "odd_aspect": lambda: scene(904).resize((SIDE * 2, SIDE // 2)),
}
GOOD = {
    f"{part}/{name}/{i}.png": png(scene(1000 * k + 100 * n + i))
    for k, part in enumerate(("train", "test", "val"))
    for n, name in enumerate(("rose", "tulip"))
    for i in range(12)
}


@pytest.fixture
def flowers(write):
    """flowers(files, dark="drop", near=0.8): a level, or a threshold."""

    def spec(files: dict[str, bytes], *, size: int = SIDE, **gate: str | float) -> DatasetSpec:
        chosen = {rule: {"level" if isinstance(value, str) else "threshold": value} for rule, value in gate.items()}
        source = str(write(GOOD | files))
        return DatasetSpec.model_validate({"source": source, "name": "flowers", "size": size, "gate": chosen})

    return spec


def found(report: ValidationReport) -> dict[str, Finding]:
    return {finding.rule: finding for finding in report.findings}


def names(dataset: Dataset, rows: np.ndarray) -> set[str]:
    return {dataset.images.snapshot.files[dataset.images.rows[row]] for row in rows}


def suspects(home: Path) -> dict[str, list[dict[str, str]]]:
    """Rule -> its lines in the quarantine list."""
    text = file_of(home, "flowers").read_text("utf-8-sig")
    lines: dict[str, list[dict[str, str]]] = {}
    for line in csv.DictReader(io.StringIO(text)):
        lines.setdefault(line["rule"], []).append(line)
    return lines


def test_pictures_that_are_well_are_not_spoken_of(flowers, home):
    assert prepare(flowers({}), home).report.findings == ()


def test_a_size_is_not_odd_because_most_files_have_the_same(flowers, home):
    files = {f"train/rose/large{i}.png": png(scene(500 + i).resize((90, 90))) for i in range(3)}
    assert prepare(flowers(files), home).report.findings == ()


@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_is_found_by_its_rule_and_listed_with_its_score(flowers, home, rule: str):
    findings = found(prepare(flowers({f"train/rose/{rule}.png": png(FAULTS[rule]())}), home).report)
    assert findings[rule].level == "warn"
    assert findings[rule].files == (f"train/rose/{rule}.png",)
    assert findings[rule].message.startswith("1 picture ")
    (line,) = suspects(home)[rule]
    assert line["file"] == f"train/rose/{rule}.png"
    assert 0 <= float(line["score"]) <= 1
    assert findings.keys() <= {rule, "blurred"}  # what is blank or squeezed may be blurred too


@pytest.mark.slow
def test_the_worst_is_named_first_with_what_was_measured(flowers, home):
    files = {
        f"train/rose/dark{level}.png": png(scene(level).point(lambda value, by=level: value // by)) for level in (4, 16)
    }
    finding = found(prepare(flowers(files), home).report)["dark"]
    assert finding.files == ("train/rose/dark16.png", "train/rose/dark4.png")
    assert re.search(
        r"^2 pictures too dark to see much, such as train/rose/dark16.png \(0\.0\d\); look", finding.message
    )


@pytest.mark.slow
def test_thresholds_are_settings(flowers, home):
    files = {"train/rose/dusk.png": png(scene(1).point(lambda value: value // 3))}
    assert "dark" in found(prepare(flowers(files), home).report)
    assert "dark" not in found(prepare(flowers(files, dark=0.2), home).report)


def test_what_looks_wrong_is_left_out_where_that_is_asked_for_but_for_test_pictures(flowers, home):
    files = {f"{part}/rose/dark.png": png(FAULTS["dark"]().rotate(turn)) for part, turn in (("train", 0), ("test", 90))}
    dataset = prepare(flowers(files, dark="drop"), home)
    assert found(dataset.report)["dark"].message.endswith("left out")
    assert [(one.rule, one.train, one.test, one.stay) for one in dataset.report.dropped] == [("dark", 1, 0, 1)]
    assert "train/rose/dark.png" not in names(dataset, dataset.split.development)
    assert "test/rose/dark.png" in names(dataset, dataset.split.test)


def test_what_looks_wrong_can_stop_it(flowers, home):
    with pytest.raises(DataRefused, match="1 picture of one colour, or nearly"):
        prepare(flowers({"train/rose/blank.png": png(FAULTS["blank"]())}, blank="stop"), home)


@pytest.mark.slow
def test_all_is_measured_once_and_only_what_is_asked(flowers, home, monkeypatch):
    files = {"train/rose/dark.png": png(FAULTS["dark"]())}
    ignored = dict.fromkeys(("light", "blank", "blurred", *NEAR), "ignore")
    prepare(flowers(files, **ignored), home)
    (looks,) = (home / "images").glob("*/looks.npz")
    assert set(np.load(looks)) == {"of", "dark"}
    assert not list((home / "images").glob("*/near.npz"))
    asked: list[list[str]] = []
    measure = quality.looks
    monkeypatch.setattr(
        quality, "looks", lambda pixels, names, **more: asked.append(names) or measure(pixels, names, **more)
    )
    before = prepare(flowers(files), home).report
    assert asked == [["light", "blank", "blurred"]]
    for module, name in ((quality, "looks"), (quality, "sizes"), (near, "hashes"), (near, "pairs")):
        monkeypatch.delattr(module, name)
    assert prepare(flowers(files), home).report == before


@pytest.mark.slow
def test_what_is_remembered_and_cannot_be_read_is_measured_again(flowers, home):
    spec = flowers({"train/rose/dark.png": png(FAULTS["dark"]())})
    before = prepare(spec, home).report
    for file in (home / "images").glob("*/*.npz"):
        file.write_bytes(file.read_bytes()[:-30])
    assert prepare(spec, home).report == before


def test_nothing_is_said_of_the_looks_of_tiny_pictures(flowers, home, monkeypatch):
    """Nor is the library imported, which takes a second."""
    files = {"train/rose/dark.png": png(FAULTS["dark"]()), "train/rose/again.jpg": again(0)}
    for module, name in ((quality, "looks"), (near, "hashes")):
        monkeypatch.delattr(module, name)
    assert found(prepare(flowers(files, size=12), home).report) == {}
    monkeypatch.undo()
    assert found(prepare(flowers(files, size=24), home).report).keys() == {"dark"}


def test_near_copies_within_a_class_are_told_from_those_of_another_class(flowers, home):
    dataset = prepare(flowers({"train/rose/again.jpg": again(0), "train/tulip/odd.jpg": again(1)}), home)
    findings = found(dataset.report)
    assert findings.keys() == {"near", "near_contradictions"}
    assert findings["near"].groups == (("train/rose/0.png", "train/rose/again.jpg"),)
    assert set(findings["near_contradictions"].groups[0]) == {"train/rose/1.png", "train/tulip/odd.jpg"}
    assert findings["near"].message.startswith("1 picture nearly the same as another one of the class")
    assert findings["near_contradictions"].message.startswith("2 pictures nearly the same as one of another class")
    lines = suspects(home)
    assert {line["advice"] for line in lines["near_contradictions"]} == {"drop, or label=rose or label=tulip, or keep"}
    assert all(float(line["score"]) > 0.93 for lines_ in lines.values() for line in lines_)


@pytest.mark.slow
def test_files_of_the_same_bytes_are_no_near_copies(flowers, home):
    findings = found(prepare(flowers({"train/rose/copy.png": GOOD["train/rose/0.png"]}), home).report)
    assert findings.keys() == {"copies"}


@pytest.mark.slow
def test_of_near_copies_that_are_dropped_one_is_left(flowers, home):
    files = {
        "train/rose/again.jpg": again(0),
        "train/rose/mirrored.png": png(scene(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    }
    dataset = prepare(flowers(files, near="drop"), home)
    same = {"train/rose/0.png", *files}
    assert len(same & names(dataset, dataset.split.development)) == 1
    assert [(one.rule, one.train + one.val) for one in dataset.report.dropped] == [("near", 2)]


@pytest.mark.slow
def test_a_near_copy_of_a_test_picture_leaves_the_training_part_where_that_is_asked_for(flowers, home):
    files = {"train/rose/leak.jpg": again(1000)}
    told = prepare(flowers(files), home)
    finding = found(told.report)["near_leakage"]
    assert (finding.level, finding.files) == ("warn", ("train/rose/leak.jpg",))
    assert set(finding.groups[0]) == {"train/rose/leak.jpg", "test/rose/0.png"}
    dropped = prepare(flowers(files, near_leakage="drop"), home)
    np.testing.assert_array_equal(told.split.test, dropped.split.test)
    assert names(told, told.split.development) - names(dropped, dropped.split.development) == {"train/rose/leak.jpg"}
    assert told.report.fingerprint != dropped.report.fingerprint
    with pytest.raises(DataRefused, match="easier than the world"):
        prepare(flowers(files, near_leakage="stop"), home)


@pytest.mark.slow
def test_near_copies_are_in_one_part_where_the_parts_are_split_off_here(write, home):
    files = {f"{name}/{i}.png": png(scene(100 * n + i)) for n, name in enumerate(("rose", "tulip")) for i in range(20)}
    files |= {f"{name}/{i}.jpg": again(100 * n + i) for n, name in enumerate(("rose", "tulip")) for i in range(20)}
    source = str(write(files))

    def split(level: str) -> Dataset:
        gate = {rule: {"level": "ignore"} for rule in NEAR} | {"near_leakage": {"level": level}}
        return prepare(DatasetSpec.model_validate({"source": source, "size": SIDE, "gate": gate}), home / level)

    together, apart = split("warn"), split("ignore")
    for rows in (together.split.train, together.split.val, together.split.test):
        stems = Counter(name.partition(".")[0] for name in names(together, rows))
        assert set(stems.values()) == {2}
    assert together.report.findings == ()
    for fold in folds(together.images, together.split.development, k=3, seed=0, alike=together.alike):
        assert set(Counter(name.partition(".")[0] for name in names(together, fold.val)).values()) == {2}
    assert list(apart.alike) == []
    assert {Counter(name.partition(".")[0] for name in names(apart, apart.split.test)).most_common()[-1][1]} == {1}
    grown = files | {"rose/0 again.jpg": png(scene(0).point(lambda value: value * 9 // 10))}
    write(grown)
    later = split("warn")
    assert names(later, later.split.test) - names(together, together.split.test) <= {"rose/0 again.jpg"}
    assert later.report.findings[0].rule == "changed"
    assert len(later.report.findings) == 1


@pytest.mark.slow
def test_a_person_may_say_that_a_near_copy_is_meant(flowers, home):
    spec = flowers({"train/rose/again.jpg": again(0)})
    prepare(spec, home)
    list_ = file_of(home, "flowers")
    list_.write_text(list_.read_text("utf-8-sig").replace('drop, or keep",,', 'drop, or keep",keep,'))
    assert found(prepare(spec, home).report) == {}


@pytest.mark.slow
def test_more_near_copies_than_a_fifth_of_a_class_are_not_left_out_by_a_rule(flowers, home):
    files = {f"train/rose/again{i}.jpg": again(i) for i in range(12)}
    with pytest.raises(DataRefused, match=r"gate\.near would drop 33% of 'rose'"):
        prepare(flowers(files, near="drop"), home)
