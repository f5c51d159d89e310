"""Records of which pictures there were: equal bytes for equal content, found again, compared with at the next run."""

import gzip
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from data import snapshot, validate
from data.errors import DataRefused, InputError
from data.gate.config import GateConfig
from data.gate.found import Found
from data.history import records
from data.history.diff import diff
from data.prepare import inspect, prepare
from data.spec import DatasetSpec, Part


def flowers(write, n: int = 12, extra: dict[str, bytes | None] | None = None, classes: str = "ab") -> DatasetSpec:
    files: dict[str, bytes | None] = {f"{name}/{i}.png": None for i in range(n) for name in classes}
    return DatasetSpec(source=str(write(files | (extra or {}))), name="flowers", size=8)


def kept(home: Path) -> list[Path]:
    return sorted((home / "datasets/snapshots").glob("*.csv.gz"))


def said(report) -> dict[str, str]:
    return {one.rule: one.message for one in report.findings if one.rule in ("changed", "classes_changed")}


def test_a_record_says_of_every_picture_what_it_was_used_for(write, home):
    dataset = prepare(flowers(write), home)
    (file,) = kept(home)
    assert file.name == f"{dataset.images.snapshot.fingerprint}-seed0-val0.1-test0.15.csv.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    assert lines[0] == "sha256,label,part,bytes,file"
    assert len(lines) == 25
    first = lines[1].split(",")
    assert first[0] == dataset.images.snapshot.digests[0]
    assert first[1::2] == ["a", str(dataset.images.snapshot.sizes[0])]
    loaded = records.load(file)
    for part in Part:
        rows = np.flatnonzero(loaded.parts == records.PARTS.index(part))
        assert rows.tolist() == getattr(dataset.split, part).tolist()
    assert diff(loaded, records.of(dataset.images, dataset.split)).sentence == "nothing changed"


def test_what_is_in_no_part_is_in_the_record_all_the_same(write, home):
    spec = flowers(write, extra={"a/broken.png": b"x"}).model_copy(update={"max_unreadable": 0.5})
    dataset = prepare(spec, home)
    (file,) = kept(home)
    loaded = records.load(file)
    (row,) = np.flatnonzero(loaded.parts == 0)
    assert loaded.files[row] == "a/broken.png"
    assert len(loaded.files) == len(dataset.images.rows) + 1


def test_equal_pictures_are_equal_bytes_wherever_and_whenever(write, home, tmp_path):
    prepare(flowers(write), home)
    prepare(flowers(write), tmp_path / "elsewhere")
    (one,), (other,) = kept(home), kept(tmp_path / "elsewhere")
    assert (one.name, one.read_bytes()) == (other.name, other.read_bytes())


def test_names_labels_and_digests_of_every_kind_come_back(home):
    names = ["a,b.png", 'quo"te.png', "two\nlines.png", "\udcff.png", "blank .png"]
    digests = np.array([bytes(32), b"\x01" + bytes(31), bytes(31) + b"\x01", b"\xff" * 32, b"," * 32], "S32")
    was = records.Record(
        fingerprint="0" * 64,
        classes=("1", "10", "a,b"),
        digests=digests,
        labels=np.array([0, 1, 2, 1, 0], np.int32),
        parts=np.array([0, 1, 2, 3, 1], np.int8),
        sizes=np.arange(5),
        files=names,
    )
    file = records.keep(was, f"{'0' * 64}-seed0", data_set="odd", home=home)
    read = records.load(file)
    assert list(read.files) == names
    assert read.classes == was.classes
    assert read.digests.tobytes() == digests.tobytes()
    for name in ("labels", "parts", "sizes"):
        assert getattr(read, name).tolist() == getattr(was, name).tolist()


@pytest.mark.parametrize("damage", [b"", b"no gzip", b"half", b"sha256,label\n", b"column"])
def test_a_damaged_record_is_refused_in_a_sentence_and_stops_no_run(write, home, damage):
    prepare(flowers(write), home)
    (file,) = kept(home)
    whole = file.read_bytes()
    match damage:
        case b"half":
            file.write_bytes(whole[: len(whole) // 2])
        case b"column":
            file.write_bytes(gzip.compress(gzip.decompress(whole).replace(b",train,", b",trian,")))
        case b"no gzip":
            file.write_bytes(damage)
        case _:
            file.write_bytes(gzip.compress(damage))
    with pytest.raises(InputError, match=r"csv.gz is damaged .* remove it"):
        records.load(file)
    assert said(prepare(flowers(write, 13), home).report) == {}


def test_a_fingerprint_is_found_by_its_first_digits(write, home):
    first = prepare(flowers(write), home).report.fingerprint
    prepare(flowers(write, 13), home)
    file = records.find(first[:8], home)
    assert file is not None
    assert file.name.startswith(first)
    assert records.find(first, home) == records.find(f"{first[:12]}-seed0-val0.1-test0.15", home) == file
    assert records.find(first[:7], home) is None
    assert records.find(f"{first[:12]}-seed1-val0.1-test0.15", home) is None
    assert records.find("../../etc", home) is None


def test_digits_that_begin_several_fingerprints_are_refused(home):
    folder = records.folder(home)
    folder.mkdir(parents=True)
    for digit in "12":
        (folder / f"{'0' * 10}{digit * 54}-seed0.csv.gz").touch()
    with pytest.raises(InputError, match=r"'00000000' begins 2 fingerprints; write more digits of 0000000000111"):
        records.find("00000000", home)


def test_another_split_of_the_same_pictures_is_another_record(write, home):
    spec = flowers(write, 30)
    prepare(spec, home)
    report = prepare(spec.model_copy(update={"split_seed": 1}), home).report
    assert len(kept(home)) == 2
    assert re.search(r"since .* UTC: \d+ moved to another part", said(report)["changed"])
    named = re.search(r"`trainserve data diff (\S+) (\S+)`", said(report)["changed"])
    assert named is not None
    was, is_ = (records.find(text, home) for text in named.groups())
    assert was != is_ is not None


def test_a_run_tells_what_changed_since_the_last_one(write, home):
    first = prepare(flowers(write, 12), home).report
    assert said(first) == {}
    source = Path(flowers(write, 13).source)  # one more of each class
    (source / "a/0.png").rename(source / "b/was in a.png")
    (source / "a/1.png").unlink()
    second = prepare(flowers(write, 0), home).report
    assert re.fullmatch(
        rf"since \d{{4}}-\d\d-\d\d \d\d:\d\d UTC: 2 added, 1 removed, 1 relabelled; "
        rf"`trainserve data diff {first.fingerprint[:12]} {second.fingerprint[:12]}` lists them",
        said(second)["changed"],
    )
    assert second.ok
    assert said(prepare(flowers(write, 0), home).report) == {}  # once more, and nothing changed since


def test_classes_that_changed_are_warned_of(write, home):
    prepare(flowers(write, classes="ab"), home)
    source = Path(flowers(write, 0).source)
    (source / "b").rename(source / "c")
    report = prepare(flowers(write, 0), home).report
    assert "the classes changed (new: 'c'; gone: 'b')" in said(report)["classes_changed"]
    assert {one.level for one in report.findings if one.rule == "classes_changed"} == {"warn"}


def test_changed_classes_are_refused_until_they_are_let_through_where_the_level_says_stop(write, home):
    prepare(flowers(write, classes="ab"), home)
    source = Path(flowers(write, 0).source)
    (source / "b").rename(source / "c")
    spec = flowers(write, 0)

    def at(level: str) -> DatasetSpec:
        return spec.model_copy(update={"gate": GateConfig.model_validate({"classes_changed": {"level": level}})})

    by_source = rf"the classes changed .* diff \w+ {source} --dataset.name=flowers` lists"
    for _ in range(2):  # a refusal is no new state of things, and leaves no record to name
        with pytest.raises(DataRefused, match=by_source):
            prepare(at("stop"), home)
    assert set(said(prepare(at("ignore"), home).report)) == {"changed"}
    assert prepare(at("stop"), home).report.ok


@pytest.mark.slow
def test_pictures_that_another_rule_refuses_are_named_by_their_source(write, home, monkeypatch):
    prepare(flowers(write, 40), home)
    refused = {"gate": GateConfig.model_validate({"shift": {"level": "stop"}})}
    monkeypatch.setitem(validate.OF_THE_SPLIT, "shift", lambda *_: Found("another kind of pictures"))
    spec = flowers(write, 41).model_copy(update=refused)
    told = inspect(spec, home)
    with pytest.raises(DataRefused, match="another kind"):
        prepare(spec, home)
    assert not told.ok
    assert f" {spec.source} --dataset.name=flowers`" in said(told)["changed"]
    assert len(kept(home)) == 1


def test_a_source_is_told_with_the_settings_that_decide_which_pictures_it_has(write, home):
    prepare(flowers(write, 12), home)
    more = str(write({"a/extra.png": None}, "two words"))
    spec = flowers(write, 12).model_copy(update={"more": (more,), "rename": ("a=rose",), "label": "species"})
    told = said(inspect(spec, home))["changed"]
    command = re.search(r"`trainserve data diff \w+ (.*)`", told)
    assert command is not None
    assert shlex.split(command[1]) == [
        spec.source,
        "--dataset.name=flowers",
        f"--dataset.more={more}",
        "--dataset.label=species",
        "--dataset.rename=a=rose",
    ]


def test_looking_tells_what_changed_and_is_no_run(write, home):
    prepare(flowers(write, 12), home)
    before = kept(home)
    for _ in range(2):
        report = inspect(flowers(write, 13), home)
        assert "2 added" in said(report)["changed"]
        assert str(Path(flowers(write, 0).source)) in said(report)["changed"]
    assert kept(home) == before


def test_pictures_opened_again_in_the_middle_of_a_run_are_not_what_the_next_one_is_compared_with(write, home):
    prepare(flowers(write, 12), home)
    prepare(flowers(write, 13), home, again=True)
    assert len(kept(home)) == 1
    assert "2 added" in said(prepare(flowers(write, 0), home).report)["changed"]


def test_pictures_that_are_refused_leave_no_record(write, home):
    with pytest.raises(DataRefused):
        prepare(flowers(write, 2), home)
    assert kept(home) == []


def test_data_sets_of_different_names_are_not_compared(write, home):
    prepare(flowers(write, 12), home)
    other = flowers(write, 13).model_copy(update={"name": "other"})
    assert said(prepare(other, home).report) == {}


def test_a_record_that_cannot_be_written_is_no_half_one(write, home, monkeypatch):
    prepare(flowers(write, 12), home)
    before = {file: file.read_bytes() for file in records.folder(home).iterdir()}

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    was = records.load(kept(home)[0])
    monkeypatch.setattr("data.whole.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        records.keep(was, "0" * 64, data_set="flowers", home=home)
    assert {file: file.read_bytes() for file in records.folder(home).iterdir()} == before


def test_a_source_says_only_the_parts_that_no_split_changes(write, home):
    def codes(files: dict[str, bytes | None], folder: str) -> list[int]:
        taken = snapshot.take(write(files, folder), "x", home=home)
        return sorted(set(records.of_source(taken).parts.tolist()))

    assert codes({"a/1.png": None, "b/2.png": None}, "none") == [records.OPEN]
    train, test = dict.fromkeys(["train/a/1.png", "train/b/2.png"]), dict.fromkeys(["test/a/3.png", "test/b/4.png"])
    assert codes(train | test, "some") == [records.OPEN, 3]
    assert codes(train | test | {"val/a/5.png": None}, "all") == [1, 2, 3]
