"""Listings: a table instead of folders, read as spreadsheets write it, and refused with the line that is wrong."""

import os
import sys
import time
from datetime import date, datetime
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet as written

from data import catalog
from data.errors import DataRefused, InputError, SourceError
from data.layout import Listed
from data.prepare import Dataset, inspect, prepare
from data.sources import listing, parquet
from data.sources.kinds import ListingFile, default_name, parse_source
from data.spec import DatasetSpec, Part


@pytest.fixture
def table(write):
    """table(text, "1.png", ...) -> listing, beside pictures of these names."""

    def write_table(text: str | bytes, *files: str, name: str = "flowers.csv") -> Path:
        file = write(dict.fromkeys(files)) / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write_table


@pytest.fixture
def flowers(table):
    """20 roses, 20 tulips, without a folder of their own; `more`: columns and their cells by (label, number)."""

    def spec(more: str = "", cells=lambda _label, _number: "", **settings: object) -> DatasetSpec:
        rows = [(f"{label}{i}.png", label, cells(label, i)) for label in ("rose", "tulip") for i in range(20)]
        text = f"path,label{more}\n" + "".join(f"{file},{label}{cell}\n" for file, label, cell in rows)
        file = table(text, *(row[0] for row in rows))
        return DatasetSpec.model_validate({"source": str(file), "size": 8} | settings)

    return spec


def listed(file: Path) -> dict[str, str]:
    return {picture.file: picture.label for picture in listing.read(file).pictures}


def parts(dataset: Dataset) -> dict[str, Part]:
    images = dataset.images
    return {
        images.snapshot.files[images.rows[row]]: part for part in Part for row in getattr(dataset.split, part).tolist()
    }


def test_a_listing_says_what_the_pictures_show(flowers, home):
    spec = flowers()
    dataset = prepare(spec, home)
    assert dataset.report.name == "flowers"
    assert dataset.images.classes == ("rose", "tulip")
    assert [len(rows) for rows in (dataset.split.train, dataset.split.val, dataset.split.test)] == [30, 4, 6]
    assert dataset.report.findings == ()


def test_a_listing_is_the_same_data_as_folders_are(flowers, write, home, png):
    from_table = prepare(flowers(), home)
    files = {
        f"{name}/{i}.png": png(20 * number + i) for number, name in enumerate(("rose", "tulip")) for i in range(20)
    }
    from_folders = prepare(DatasetSpec(source=str(write(files, "folders")), name="flowers", size=8), home)
    assert from_table.images.snapshot.fingerprint == from_folders.images.snapshot.fingerprint
    assert from_table.images.snapshot.digests == from_folders.images.snapshot.digests


def test_splits_that_it_states_are_kept(flowers, home):
    by_number = {0: "test", 1: "TEST", 2: "valid"}
    spec = flowers(",split", lambda _label, i: "," + by_number.get(i, "train"))
    assigned = parts(prepare(spec, home))
    assert {file for file, part in assigned.items() if part is Part.TEST} == {
        "rose0.png",
        "rose1.png",
        "tulip0.png",
        "tulip1.png",
    }
    assert {file for file, part in assigned.items() if part is Part.VAL} == {"rose2.png", "tulip2.png"}
    assert not (home / "datasets/splits").exists()


@pytest.mark.parametrize("said", ["test", "val"])
def test_pictures_without_a_split_are_trained_on_beside_one_that_is_stated(flowers, home, said):
    assigned = parts(prepare(flowers(",split", lambda _label, i: f",{said}" if i < 4 else ","), home))
    stated = {f"{label}{i}.png" for label in ("rose", "tulip") for i in range(4)}
    assert {file for file, part in assigned.items() if part == said} == stated
    assert set(assigned.values()) == set(Part)
    assert len(assigned) == 40


@pytest.mark.parametrize(
    "text",
    [
        b"path,label\na.png,rose\nb.png,tulip\n",
        b"\xef\xbb\xbfPath,Label\r\na.png,rose\r\n\r\nb.png,tulip\r\n",
        b"label;path\nrose; a.png\ntulip;./b.png;\n",
        b"path\tlabel\tsplit\na.png\trose\nb.png\ttulip\t",
        b'path,label,\r"a.png","rose"\r"b.png","tulip",',
        b"\npath,label\na.png,rose\na.png,rose\nb.png,tulip",
    ],
    ids=["plain", "Excel", "semicolons", "tabs", "quotes and old Macs", "a line twice"],
)
def test_listings_are_read_as_spreadsheets_write_them(table, text):
    assert listed(table(text, "a.png", "b.png")) == {"a.png": "rose", "b.png": "tulip"}


def test_two_spellings_of_a_class_are_one(table):
    assert len(set(listed(table("path,label\na.png,ros\u00e9\nb.png,rose\u0301\n", "a.png", "b.png")).values())) == 1


def test_a_listed_file_needs_no_suffix_of_a_picture(table, png, write):
    write({"a": png(1), "b.data": png(2)})
    assert listed(table("path,label\na,rose\nb.data,tulip\n")) == {"a": "rose", "b.data": "tulip"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label,splt\na.png,rose,train\n", "line 1: 'splt' is no column; use path, label, split"),
        ("file,label\na.png,rose\n", "line 1: 'file' is no column"),
        ("a.png,rose\n", "line 1: 'a.png' is no column"),
        ("path,split\na.png,train\n", "line 1: the column 'label' is missing"),
        ("path,label,label\na.png,rose,rose\n", "line 1: the column 'label' is there twice"),
        ("path,label\na.png,rose\n\nb.png, \n", "line 4: 'b.png' has no label; write its class, or remove the line"),
        ("path,label\na.png\n", "line 2: 'a.png' has no label"),
        ("path,label\n,rose\n", "line 2: there is no path"),
        ("path,label,split\na.png,rose,dev\n", "line 2: 'dev' is no split; write train, val or test, or nothing"),
        ("path,label\n/etc/a.png,rose\n", "line 2: '/etc/a.png' is an absolute path; write it relative"),
        ("path,label\nC:\\a.png,rose\n", "line 2: 'C:\\\\a.png' is an absolute path"),
        ("path,label\nb/../../a.png,rose\n", "line 2: 'b/../../a.png' leads out of the listing's folder"),
        ("path,label\na.png,rose\nb.png,x\n./a.png,tulip\n", "line 4: 'a.png' is in line 2 too, which says otherwise"),
        ("path,label\na.png,red, rose\n", "line 2: 3 cells under 2 columns; put quotes around what holds a comma"),
        ('path,label\na.png,"rose\n', "line 2: no CSV"),
        ("path,label\n", "lists no picture; write a line for each below its header, path,label"),
        ("", "lists no picture"),
        ("path,label\nc.png,rose\nd.png,tulip\n", "none of the 2 files that"),
        (b"path,label\n\xff\xfea.png,rose\n", "is not UTF-8; save it as CSV UTF-8"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_line(table, text, sentence):
    with pytest.raises(SourceError) as caught:
        listing.read(table(text, "a.png", "b.png"))
    assert sentence in str(caught.value)
    assert "flowers.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_are_told_and_left_out(flowers, home):
    spec = flowers()
    folder = Path(spec.source).parent
    (folder / "rose3.png").unlink()
    dataset = prepare(spec, home)
    (finding,) = dataset.report.findings
    assert (finding.rule, finding.level, finding.files) == ("missing", "warn", ("rose3.png",))
    assert finding.message.startswith("1 of 40 listed files (2.5%) are not there, and are left out: rose3.png")
    for i in (4, 5, 6):
        (folder / f"rose{i}.png").unlink()
    with pytest.raises(
        DataRefused, match=r"4 of 40 listed files \(10.0%\) are not there, more than dataset.max_unread"
    ):
        prepare(spec, home)
    assert prepare(spec.model_copy(update={"max_unreadable": 0.2}), home).report.ok


def test_a_class_of_which_no_file_is_there_is_told_by_its_name(table, home):
    rows = [f"{label}{i}.png" for label in ("rose", "tulip") for i in range(30)]
    text = "path,label\nlily.png,lily\n" + "".join(f"{file},{file[:4]}\n" for file in rows)
    found = {one.rule: one for one in inspect(DatasetSpec(source=str(table(text, *rows)), size=8), home).findings}
    assert found.keys() == {"missing", "empty_classes"}
    assert "lily/" in found["empty_classes"].message


def test_a_listing_is_a_source_that_a_data_set_is_called_after(table, tmp_path):
    file = table("path,label\n", name="My Flowers.CSV")
    assert parse_source(str(file)) == ListingFile(path=file)
    assert default_name(parse_source(str(file))) == "my-flowers"
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(SourceError, match=r"neither a folder nor an archive .* nor a listing \(.csv .parquet\)"):
        parse_source(str(tmp_path / "a.xlsx"))


def test_a_second_look_reads_no_file_that_did_not_change_whatever_other_listing_names_it(table, home):
    from data import snapshot

    first, second = (
        table(f"path,label\n{file},rose\n", "a.png", "b.png", name=f"{file}.csv") for file in ("a.png", "b.png")
    )
    long_ago = time.time() - 100
    for file in first.parent.iterdir():
        os.utime(file, (long_ago, long_ago))

    def digests(file: Path) -> tuple[str, ...]:
        return snapshot.take(file.parent, "flowers", home=home, listings=[listing.read(file)]).digests

    before = digests(first), digests(second)
    for picture in first.parent.glob("*.png"):
        picture.write_bytes(picture.read_bytes()[::-1])
        os.utime(picture, (long_ago, long_ago))  # a change that only reading could show
    assert (digests(first), digests(second)) == before


@pytest.mark.slow
def test_a_hundred_thousand_lines_take_seconds(table):
    """What is asked of the disk is one look for each; here nothing is there but two of them."""
    text = "path,label,split\na.png,rose,train\nb.png,tulip,test\n" + "".join(
        f"pictures/{i % 100}/{i}.png,class {i % 50},train\n" for i in range(100_000)
    )
    began = time.perf_counter()
    found = listing.read(table(text, "a.png", "b.png"))
    assert time.perf_counter() - began < 20  # 1 s on an idle machine
    assert found.pictures == (Listed("a.png", "rose", Part.TRAIN), Listed("b.png", "tulip", Part.TEST))
    assert len(found.missing) == 100_000


def test_classes_are_renamed_joined_exchanged_and_left_out(write, home):
    folders = {"daisies": 9, "Daisy": 9, "rose": 9, "tulip": 9, "background": 9}
    root = write({f"{name}/{i}.png": None for name, n in folders.items() for i in range(n)})
    rename = ("daisies=daisy", " Daisy = daisy", "rose=tulip", "tulip=rose", "background=")
    dataset = prepare(DatasetSpec(source=str(root), size=8, rename=rename), home)
    images = dataset.images
    found = {
        images.snapshot.files[row]: images.classes[label] for row, label in zip(images.rows, images.labels, strict=True)
    }
    assert images.classes == ("daisy", "rose", "tulip")
    assert {(file.partition("/")[0], label) for file, label in found.items()} == {
        ("daisies", "daisy"),
        ("Daisy", "daisy"),
        ("rose", "tulip"),
        ("tulip", "rose"),
    }
    assert len(found) == 36


def test_a_class_that_is_not_there_cannot_be_renamed(write, home):
    root = write({f"{name}/{i}.png": None for name in ("daisies", "rose") for i in range(9)})
    with pytest.raises(
        InputError, match=r"dataset.rename speaks of 'dasies', which is no class here; .* such as daisies"
    ):
        prepare(DatasetSpec(source=str(root), size=8, rename=("dasies=daisy",)), home)


@pytest.mark.parametrize(
    ("rename", "sentence"),
    [
        (("daisy",), "'daisy' renames nothing; write such as daisies=daisy"),
        (("=daisy",), "'=daisy' renames nothing"),
        (("",), "'' renames nothing"),
        (("a=b", "a=c"), "'a' is renamed twice"),
    ],
)
def test_a_renaming_that_says_nothing_is_refused(rename, sentence):
    with pytest.raises(ValueError, match="Value error") as caught:
        DatasetSpec(rename=rename)
    assert sentence in str(caught.value)


def test_a_listing_elsewhere_than_the_pictures_of_a_catalogue_is_fetched_where_it_is(table, home):
    file = table("path,label\na.png,rose\n", "a.png")
    fetched = catalog.fetch(DatasetSpec(source=str(file)), home)
    assert (fetched.root, fetched.listing, fetched.name, fetched.mirror) == (file.parent, file, "flowers", True)
    assert not home.exists()


def test_a_parquet_listing_says_the_same_as_a_csv(table):
    columns = {
        "Path": ["a.png", "b.png", "c.png"],
        "label": [3, 3, 4],
        "split": ["train", None, "test"],
        "time": [datetime(2026, 3, 1, 12), datetime(2026, 3, 2), None],
    }
    csv = table("path,label,split,time\na.png,3,train,2026-03-01T12:00\nb.png,3,,2026-03-02\nc.png,4,test,\n")
    file = table(b"", "a.png", "b.png", "c.png", name="flowers.parquet")
    written.write_table(pyarrow.table(columns), file, row_group_size=2)
    assert listing.read(file).pictures == listing.read(csv).pictures
    written.write_table(pyarrow.table({"path": ["a.png"], "label": [""]}), file)
    with pytest.raises(SourceError, match=r"flowers.parquet, row 1: 'a.png' has no label"):
        listing.read(file)
    written.write_table(pyarrow.table({"image": ["a.png"], "label": ["a"]}), file)
    with pytest.raises(SourceError, match=r"flowers.parquet, columns: 'image' is no column; use path"):
        listing.read(file)
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match=r"cannot be read as Parquet \(.*\); write it again"):
        listing.read(file)


def test_without_pyarrow_a_parquet_listing_is_one_sentence(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SourceError, match=r"pyarrow, which reads it, is not installed; pip install 'trainserve\[list"):
        listing.read(table(b"PAR1", name="flowers.parquet"))


@pytest.mark.parametrize(
    ("cell", "text"), [(None, ""), (float("nan"), ""), (3, "3"), (b" a.png", "a.png"), (date(2026, 3, 1), "2026-03-01")]
)
def test_cells_of_a_parquet_listing_are_what_a_csv_would_have(cell, text):
    assert parquet.text(cell) == text
