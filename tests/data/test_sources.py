"""Several sources taken together as one data set."""

import zipfile
from pathlib import Path

import pytest

from data.errors import SourceError
from data.prepare import Dataset, inspect, prepare
from data.spec import DatasetSpec, Part


@pytest.fixture
def garden(write, png):
    """Two folders of 20 pictures of each class, which name a class otherwise; -> their paths."""

    def folder(name: str, labels: tuple[str, ...], start: int) -> str:
        files = {
            f"{label}/{i}.png": png(start + 20 * number + i) for number, label in enumerate(labels) for i in range(20)
        }
        return str(write(files, name))

    return folder("north", ("daisy", "rose"), 0), folder("south", ("daisies", "rose"), 100)


def names(dataset: Dataset) -> set[str]:
    return set(dataset.images.snapshot.files)


def spec_of(source: str, *more: str, **settings: object) -> DatasetSpec:
    return DatasetSpec.model_validate({"source": source, "more": more, "size": 8} | settings)


def test_sources_are_one_data_set_and_classes_of_one_name_one_class(garden, home):
    dataset = prepare(spec_of(*garden, rename=("daisies=daisy",)), home)
    assert dataset.report.name == "north"
    assert [(one.label, one.train + one.val + one.test) for one in dataset.report.classes] == [
        ("daisy", 40),
        ("rose", 40),
    ]
    assert {"north/daisy/0.png", "south/daisies/0.png", "south/rose/19.png"} <= names(dataset)
    assert all(dataset.images.path(row).is_file() for row in range(80))
    assert dataset.images.classes == ("daisy", "rose")


def test_it_is_the_same_data_as_one_folder_with_all_of_them(garden, write, home, png):
    starts = {"daisy": (0, 100), "rose": (20, 120)}
    files = {f"{label}/{s + i}.png": png(s + i) for label, both in starts.items() for s in both for i in range(20)}
    one = prepare(DatasetSpec(source=str(write(files, "all")), size=8), home).images.snapshot
    both = prepare(spec_of(*garden, rename=("daisies=daisy",)), home).images.snapshot
    assert (both.fingerprint, both.digests) == (one.fingerprint, one.digests)


def test_the_order_of_sources_and_a_new_place_for_them_change_nothing(garden, home, tmp_path):
    north, south = garden
    renamed: dict[str, object] = {"rename": ("daisies=daisy",), "name": "garden"}
    first = prepare(spec_of(north, south, **renamed), home)
    (tmp_path / "elsewhere").mkdir()
    Path(south).rename(tmp_path / "elsewhere" / "south")
    moved = prepare(spec_of(str(tmp_path / "elsewhere" / "south"), north, **renamed), home)
    assert moved.images.snapshot.fingerprint == first.images.snapshot.fingerprint
    for part in Part:
        assert getattr(moved.split, part).tolist() == getattr(first.split, part).tolist()


def test_a_source_that_is_added_leaves_the_test_pictures_where_they_are(garden, home):
    north, south = garden
    before = prepare(spec_of(north), home)
    after = prepare(spec_of(north, south, rename=("daisies=daisy",)), home)

    def tested(dataset: Dataset) -> set[str]:
        return {dataset.images.digest(row) for row in dataset.split.test}

    assert tested(before) < tested(after)


def test_a_picture_of_several_sources_is_found_as_a_copy(garden, home, png):
    north, south = garden
    (Path(south) / "rose" / "copy.png").write_bytes(png(20))
    (Path(south) / "daisies" / "copy.png").write_bytes(png(21))
    found = {one.rule: one for one in inspect(spec_of(north, south, rename=("daisies=daisy",)), home).findings}
    assert set(found["copies"].groups[0]) == {"north/rose/0.png", "south/rose/copy.png"}
    assert set(found["contradictions"].groups[0]) == {"north/rose/1.png", "south/daisies/copy.png"}


def test_sources_of_any_kind_go_together(garden, home, png, tmp_path):
    north, south = garden
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as file:
        for i in range(5):
            file.writestr(f"test/rose/{i}.png", png(300 + i))
            file.writestr(f"test/daisy/{i}.png", png(310 + i))
    lines = [f"{name}/{i}.png,{name}" for name in ("daisies", "rose") for i in range(20)]
    listing = Path(south) / "south.csv"
    listing.write_text("\n".join(["path,label", *lines]))
    sources = (north, str(listing), str(tmp_path / "more.zip"))
    dataset = prepare(spec_of(*sources, rename=("daisies=daisy",)), home)
    assert dataset.images.classes == ("daisy", "rose")
    assert len(dataset.split.test) == 10  # what one source states is the test of all
    assert len(dataset.split.train) + len(dataset.split.val) == 80
    assert all(dataset.images.path(row).is_file() for row in range(90))


def test_two_listings_of_one_folder_are_train_and_test(write, home):
    files = {f"{i}.png": None for i in range(60)}
    root = write(files)
    for name, rows in (("train", range(40)), ("test", range(40, 60))):
        lines = [f"{i}.png,{('rose', 'tulip')[i % 2]},{name}" for i in rows]
        (root / f"{name}.csv").write_text("\n".join(["path,label,split", *lines]))
    dataset = prepare(spec_of(str(root / "train.csv"), str(root / "test.csv"), name="flowers"), home)
    assert names(dataset) == files.keys()
    assert len(dataset.split.test) == 20


def test_groups_of_one_name_are_one_in_all_sources(garden, home):
    dataset = prepare(spec_of(*garden, rename=("daisies=daisy",), group=r"/(\d+)\."), home)
    snapshot = dataset.images.snapshot
    assert len(set(snapshot.groups)) == 20
    for part in Part:
        rows = getattr(dataset.split, part)
        others = set(range(80)) - set(rows.tolist())
        assert not {dataset.images.group(row) for row in rows} & {dataset.images.group(row) for row in others}


def test_a_source_that_is_there_twice_is_nowhere_or_is_empty_is_refused(garden, home, tmp_path):
    north, _ = garden
    with pytest.raises(SourceError, match="north/', which is there already; leave it out"):
        prepare(spec_of(north, f"{north}/"), home)
    with pytest.raises(SourceError, match="there is no file or folder 'no/where'"):
        prepare(spec_of(north, "no/where"), home)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty holds no picture in a class folder; leave it out of dataset.more"):
        prepare(spec_of(north, str(tmp_path / "empty")), home)


@pytest.mark.slow
def test_a_mirrored_digit_stays_wrong_in_company(garden, home):
    assert not prepare(spec_of(garden[0], "digits"), home).images.snapshot.mirror


def test_the_sum_of_the_archive_is_not_asked_of_the_others(garden, home, tmp_path):
    import hashlib

    with zipfile.ZipFile(tmp_path / "north.zip", "w") as file:
        for path in Path(garden[0]).rglob("*.png"):
            file.write(path, path.relative_to(garden[0]))
    digest = hashlib.sha256((tmp_path / "north.zip").read_bytes()).hexdigest()
    dataset = prepare(spec_of(str(tmp_path / "north.zip"), garden[1], sha256=digest), home)
    assert dataset.images.classes == ("daisies", "daisy", "rose")


def test_a_plain_folder_is_listed_as_ever(garden, home):
    assert "rose/0.png" in names(prepare(spec_of(garden[0]), home))
