"""A listing: which file is which class and part, decided once, told apart by content."""

import os
import time

import pytest

from data import snapshot
from data.errors import SourceError
from data.spec import Part


@pytest.fixture
def take(home):
    return lambda root: snapshot.take(root, "flowers", True, home=home)


def rows(found: snapshot.Snapshot) -> set[tuple[str, str, Part | None]]:
    labels = (found.classes[label] for label in found.labels)
    return set(zip(found.files, labels, found.parts, strict=True))


def test_folders_are_classes(write, take):
    root = write({"rose/1.jpg": None, "rose/deep/2.PNG": None, "tulip/3.webp": None})
    assert rows(take(root)) == {
        ("rose/1.jpg", "rose", None),
        ("rose/deep/2.PNG", "rose", None),
        ("tulip/3.webp", "tulip", None),
    }


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_folders_of_parts_hold_folders_of_classes(write, take, val):
    root = write({"train/rose/1.jpg": None, f"{val}/rose/2.jpg": None, "test/tulip/3.jpg": None})
    assert rows(take(root)) == {
        ("train/rose/1.jpg", "rose", Part.TRAIN),
        (f"{val}/rose/2.jpg", "rose", Part.VAL),
        ("test/tulip/3.jpg", "tulip", Part.TEST),
    }


def test_a_wrapping_folder_is_stepped_into(write, take):
    inside = {"rose/1.jpg": None, "tulip/2.jpg": None}
    flat = take(write(inside, "flat"))
    wrapped = take(write({f"v2/flowers/{name}": None for name in inside} | {"README.txt": b"hello"}, "wrapped"))
    assert (wrapped.classes, wrapped.fingerprint) == (flat.classes, flat.fingerprint)
    parts = take(write({"flowers/train/rose/1.jpg": None, "flowers/train/tulip/2.jpg": None}, "parts"))
    assert set(parts.parts) == {Part.TRAIN}


def test_a_class_may_be_called_train(write, take):
    assert take(write({"train/1.jpg": None, "bus/2.jpg": None})).classes == ("bus", "train")
    assert take(write({"train/1.jpg": None, "test/2.jpg": None}, "both")).classes == ("test", "train")


def test_parts_beside_other_folders_are_not_guessed_at(write, take):
    root = write({"train/rose/1.jpg": None, "test/rose/2.jpg": None, "extra/3.jpg": None})
    with pytest.raises(SourceError, match="has test, train beside extra; keep either"):
        take(root)


def test_test_pictures_without_labels_are_no_class(write, take):
    found = take(write({"train/rose/1.jpg": None, "train/tulip/2.jpg": None, "test/3.jpg": None}))
    assert found.classes == ("rose", "tulip")
    assert found.ignored == ("test/3.jpg",)


def test_a_validation_folder_that_lacks_a_class_shifts_no_label(write, take):
    train = {f"train/{name}/1.jpg": None for name in ("ant", "bee", "cat")}
    found = take(write(train | {"val/ant/4.jpg": None, "val/cat/5.jpg": None}))
    assert found.classes == ("ant", "bee", "cat")
    assert ("val/cat/5.jpg", "cat", Part.VAL) in rows(found)


def test_classes_are_in_natural_order(write, take):
    root = write({f"{name}/1.jpg": None for name in ("10", "2", "1", "b", "A", "c10", "c9")})
    assert take(root).classes == ("1", "2", "10", "A", "b", "c9", "c10")


def test_hidden_folders_are_no_classes(write, take):
    junk = (".ipynb_checkpoints/1.jpg", "__MACOSX/rose/1.jpg", ".git/1.jpg", "rose/.thumb.jpg", "rose/.x/1.jpg")
    assert take(write({"rose/1.jpg": None, "tulip/1.jpg": None} | dict.fromkeys(junk))).classes == ("rose", "tulip")


def test_other_files_are_ignored_and_listed(write, take):
    found = take(write({"rose/1.jpg": None, "rose/notes.txt": b"", "labels.csv": b"", "top.png": None}))
    assert found.files == ("rose/1.jpg",)
    assert found.ignored == ("labels.csv", "rose/notes.txt", "top.png")


def test_a_class_folder_without_pictures_is_no_class_but_is_told(write, take):
    root = write({"rose/1.jpg": None, "tulip/2.jpg": None, "iris/3.heic": b"x"})
    (root / "lily").mkdir()
    found = take(root)
    assert found.classes == ("rose", "tulip")
    assert found.ignored == ("iris/", "iris/3.heic", "lily/")


def test_two_spellings_of_one_name_are_one_class(write, take):
    assert take(write({"ros\u00e9/1.jpg": None, "rose\u0301/2.jpg": None, "x/3.jpg": None})).classes == (
        "ros\u00e9",
        "x",
    )


def test_links_are_followed_but_not_in_circles(write, take, tmp_path):
    elsewhere = write({"1.jpg": None, "2.jpg": None}, "elsewhere")
    root = write({"tulip/3.jpg": None})
    (root / "rose").symlink_to(elsewhere)
    (root / "tulip" / "round").symlink_to(root)
    (root / "tulip" / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert take(root).files.count("tulip/3.jpg") == 1
    assert take(root).classes == ("rose", "tulip")


def test_a_name_that_is_no_text_is_no_obstacle(write, take):
    root = write({"rose/1.jpg": None})
    with open(os.fsencode(root / "rose") + b"/\xff.jpg", "wb") as file:  # noqa: PTH123
        file.write(b"x")
    assert len(take(root).fingerprint) == 64
    assert len(take(root).files) == 2


def test_renaming_changes_no_fingerprint_and_no_order(write, take, png):
    contents = [png(seed) for seed in range(6)]
    one = take(write({f"{'ab'[i % 2]}/{i}.png": content for i, content in enumerate(contents)}, "one"))
    two = take(write({f"{'ab'[i % 2]}/x{9 - i}.png": content for i, content in enumerate(contents)}, "two"))
    assert one.fingerprint == two.fingerprint
    assert one.digests == two.digests


def test_renaming_a_copy_in_another_part_changes_no_fingerprint(write, take, png):
    one = take(write({"train/a/1.png": png(1), "train/b/2.png": png(2), "val/a/1.png": png(1)}, "one"))
    two = take(write({"train/a/1.png": png(1), "train/b/2.png": png(2), "VAL/a/1.png": png(1)}, "two"))
    assert one.files[0] == "train/a/1.png"
    assert two.files[0] == "VAL/a/1.png"
    assert one.fingerprint == two.fingerprint


def test_a_pixel_a_label_or_a_part_changes_the_fingerprint(write, take, png):
    def fingerprint(files: dict[str, int], folder: str) -> str:
        return take(write({name: png(seed) for name, seed in files.items()}, folder)).fingerprint

    found = {
        fingerprint({"a/1.png": 1, "b/2.png": 2}, "base"),
        fingerprint({"a/1.png": 3, "b/2.png": 2}, "pixel"),
        fingerprint({"b/1.png": 1, "a/2.png": 2}, "label"),
        fingerprint({"a/1.png": 1, "c/2.png": 2}, "class"),
        fingerprint({"train/a/1.png": 1, "train/b/2.png": 2}, "part"),
        fingerprint({"a/1.png": 1, "b/2.png": 2, "b/copy.png": 2}, "copy"),
    }
    assert len(found) == 6


def test_a_second_look_reads_no_file_that_did_not_change(write, take):
    root = write({"a/1.png": None, "b/2.png": None})
    long_ago = time.time() - 100
    for file in root.rglob("*.png"):
        os.utime(file, (long_ago, long_ago))
    first = take(root)
    same_size = (root / "a/1.png").read_bytes()[::-1]
    (root / "a/1.png").write_bytes(same_size)
    os.utime(root / "a/1.png", (long_ago, long_ago))  # a change that only reading could show
    assert take(root).fingerprint == first.fingerprint
    os.utime(root / "a/1.png", (long_ago + 1, long_ago + 1))
    assert take(root).fingerprint != first.fingerprint


def test_a_file_changed_just_now_is_read_again(write, take):
    root = write({"a/1.png": None, "b/2.png": None})
    now = time.time() + 60  # is still just now when a busy machine comes to look
    os.utime(root / "a/1.png", (now, now))
    first = take(root)
    (root / "a/1.png").write_bytes((root / "a/1.png").read_bytes()[::-1])
    os.utime(root / "a/1.png", (now, now))
    assert take(root).fingerprint != first.fingerprint


def test_a_damaged_memory_of_digests_is_no_obstacle(write, take, home):
    root = write({"a/1.png": None})
    os.utime(root / "a/1.png", (1e9, 1e9))
    first = take(root)
    (memory,) = (home / "datasets/digests").glob("*.npz")
    whole = memory.read_bytes()
    for damage in (b"", b"{}", whole[:-40], whole[:200], b"x" * len(whole)):
        memory.write_bytes(damage)
        assert take(root).fingerprint == first.fingerprint


def test_the_source_is_never_written_to(write, take):
    root = write({"a/1.png": None, "b/2.png": None})
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    take(root)
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
