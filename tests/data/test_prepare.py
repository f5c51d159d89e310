"""From a source to checked, split pictures; what is wrong is one sentence and leaves nothing behind."""

import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data.errors import DataRefused, InputError, SourceError
from data.prepare import inspect, prepare
from data.spec import DatasetSpec


def flowers(write, extra: dict[str, bytes | None] | None = None, n: int = 20) -> DatasetSpec:
    files: dict[str, bytes | None] = {f"{name}/{i}.png": None for name in ("rose", "tulip") for i in range(n)}
    return DatasetSpec(source=str(write(files | (extra or {}))), name="flowers", size=8)


def test_a_folder_of_pictures_is_ready_to_train_on(write, home):
    dataset = prepare(flowers(write), home)
    assert dataset.images.classes == ("rose", "tulip")
    assert dataset.images.pixels.shape[0] == 40
    assert [len(rows) for rows in (dataset.split.train, dataset.split.val, dataset.split.test)] == [30, 4, 6]
    assert dataset.report.ok
    assert dataset.report.height == 8


def test_a_second_time_gives_the_same(write, home):
    first, second = (prepare(flowers(write), home) for _ in range(2))
    np.testing.assert_array_equal(first.images.pixels, second.images.pixels)
    np.testing.assert_array_equal(first.split.test, second.split.test)
    assert first.report == second.report


def test_a_picture_that_changed_though_its_size_and_time_did_not_is_told_once(write, home, png):
    root = write({f"{label}/{n}.png": None for label in "ab" for n in range(9)})
    changed = root / "b/3.png"
    changed.write_bytes(png(500) + b"1")  # what comes behind a picture is none of its business
    for file in root.glob("*/*.png"):
        os.utime(file, (1e9, 1e9))
    before = prepare(DatasetSpec(source=str(root), size=8), home).images.snapshot
    changed.write_bytes(png(500) + b"2")
    os.utime(changed, (1e9, 1e9))
    spec = DatasetSpec(source=str(root), size=12)
    with pytest.raises(SourceError, match=r"b/3\.png changed while the pictures were read; run it again$"):
        prepare(spec, home)
    after = prepare(spec, home).images.snapshot
    assert set(before.digests) - set(after.digests) == {hashlib.sha256(png(500) + b"1").hexdigest()}


def test_progress_is_told(write, home):
    steps: list[str] = []
    prepare(flowers(write), home, progress=lambda what, *_: steps.append(what))
    assert "reading" in steps


@pytest.mark.parametrize("content", [b"", b"this is a text", b"\xff\xd8\xff\xe0 truncated"])
def test_files_that_are_no_pictures_are_left_out_by_name(write, home, content):
    spec = flowers(write, {"rose/broken.jpg": content}).model_copy(update={"max_unreadable": 0.1})
    dataset = prepare(spec, home)
    assert [one.file for one in dataset.images.unreadable] == ["rose/broken.jpg"]
    assert dataset.report.num_unreadable == 1
    assert [finding.files for finding in dataset.report.findings] == [("rose/broken.jpg",)]


def test_too_many_of_them_stop_the_run_and_no_split_is_remembered(write, home):
    spec = flowers(write, {f"rose/broken{i}.jpg": b"text" for i in range(9)})
    with pytest.raises(DataRefused, match=r"9 of 49 pictures \(18.4%\) cannot be read, more than dataset"):
        prepare(spec, home)
    assert not (home / "datasets/splits").exists()
    report = inspect(spec, home)
    assert (report.ok, report.num_unreadable, report.num_examples) == (False, 9, 40)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no files"),
        ({f"rose/{i}.png": None for i in range(5)}, "one class only"),
        ({f"{name}/{i}.png": None for name in ("rose", "tulip") for i in range(2)}, "at least 3 different"),
        ({f"test/{name}/{i}.png": None for name in "ab" for i in range(9)}, "nothing to train on"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_decoding(write, home, files, sentence):
    spec = DatasetSpec(source=str(write(files)))
    with pytest.raises(DataRefused, match=sentence):
        prepare(spec, home)
    assert not (home / "images").exists()
    report = inspect(spec, home)
    assert not report.ok
    assert report.num_examples == len(files)


def test_inspecting_tells_what_preparing_tells(write, home):
    spec = flowers(write, {"notes.txt": b"x"})
    assert inspect(spec, home) == prepare(spec, home).report


def test_a_validation_folder_that_lacks_a_class_changes_no_label(write, home):
    train: dict[str, bytes | None] = {f"train/{name}/{i}.png": None for name in "abc" for i in range(6)}
    spec = DatasetSpec(
        source=str(write(train | {f"val/{name}/{i}.png": None for name in "ac" for i in range(3)})), size=8
    )
    dataset = prepare(spec, home)
    assert dataset.images.classes == ("a", "b", "c")
    names = {dataset.images.path(row).parent.name for row in dataset.split.val if dataset.images.labels[row] == 2}
    assert names == {"c"}


def test_a_growing_data_set_keeps_its_test_pictures(write, home):
    spec = flowers(write, n=10)
    before = prepare(spec, home)
    tested = {before.images.digest(row) for row in before.split.test}
    after = prepare(flowers(write, n=30), home)
    assert tested <= {after.images.digest(row) for row in after.split.test}
    assert len(after.split.test) > len(tested)


def test_a_hostile_archive_leaves_nothing(tmp_path, home):
    with zipfile.ZipFile(tmp_path / "flowers.zip", "w") as archive:
        archive.writestr("rose/1.png", b"x")
        archive.writestr("../../escaped.png", b"x")
    with pytest.raises(SourceError, match="leads out of the folder"):
        prepare(DatasetSpec(source=str(tmp_path / "flowers.zip")), home)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    "source", ["nowhere/at/all", "digitz", pytest.param("s3://bucket/a.zip", marks=pytest.mark.slow)]
)
def test_a_source_that_is_not_there_is_the_users_to_mend(home, source):
    with pytest.raises(InputError):
        prepare(DatasetSpec(source=source), home)
    with pytest.raises(InputError):
        inspect(DatasetSpec(source=source), home)


def test_the_built_in_digits_pass_every_check(home: Path):
    dataset = prepare(DatasetSpec(), home)
    assert len(dataset.images.rows) == 1797
    assert dataset.report.findings == ()
    assert dataset.images.classes == tuple("0123456789")
