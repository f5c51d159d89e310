"""Data sets as Hugging Face stores them, written here by the real library: each picture comes with its very bytes."""

import hashlib
import io
import json
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets as hf
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data import catalog
from data.archive import Limits
from data.errors import DownloadError, SourceError
from data.prepare import prepare
from data.sources import gathered, listing, mirror, tables
from data.sources.hub import unpack
from data.sources.kinds import OnHub, default_name, parse_source
from data.spec import DatasetSpec, Part

NAMES = ["rose", "T-shirt/top", "../x"]


def picture(seed: int, kind: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


PICTURES = [picture(i, ("PNG", "JPEG", "WEBP")[i % 3]) for i in range(30)]


def table(first: int, end: int, **columns: list[object]) -> hf.Dataset:
    """Of the pictures from `first` to `end`, by turns of each class."""
    rows: dict[str, list[object]] = {
        "image": [{"bytes": PICTURES[i], "path": None if i % 2 else f"sub/{i}.x"} for i in range(first, end)],
        "label": [i % 3 for i in range(first, end)],
    }
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=NAMES)})
    made = hf.Dataset.from_dict(rows, features=features)
    for name, cells in columns.items():
        made = made.add_column(name, cells)
    return made


@pytest.fixture
def both() -> hf.DatasetDict:
    return hf.DatasetDict({"train": table(0, 20), "test": table(20, 30)})


def found(source: Path | str, home: Path, **settings: object) -> dict[tuple[str, str | None], Counter[bytes]]:
    """(class, part) -> the contents of its pictures."""
    spec = DatasetSpec.model_validate({"source": str(source)} | settings)
    (one,) = gathered.listings([catalog.fetch(spec, home)], spec)
    assert not one.missing
    seen: dict[tuple[str, str | None], Counter[bytes]] = {}
    for one_picture in one.pictures:
        content = (one.root / one_picture.file).read_bytes()
        seen.setdefault((one_picture.label, one_picture.part), Counter())[content] += 1
    return seen


def as_made(*, test_from: int | None = 20) -> dict[tuple[str, str | None], Counter[bytes]]:
    seen: dict[tuple[str, str | None], Counter[bytes]] = {}
    for i, content in enumerate(PICTURES):
        part = None if test_from is None else Part.TEST if i >= test_from else Part.TRAIN
        seen.setdefault((NAMES[i % 3], part), Counter())[content] += 1
    return seen


# --- save_to_disk and Parquet ---------------------------------------------------------------------------------------


def test_what_was_saved_to_disk_comes_with_splits_classes_and_bytes(both, tmp_path, home):
    both.save_to_disk(tmp_path / "flowers", num_shards={"train": 3, "test": 1})
    assert found(tmp_path / "flowers", home) == as_made()
    assert default_name(parse_source(str(tmp_path / "flowers"))) == "flowers"


def test_an_archive_of_what_was_saved_is_read_as_well(both, tmp_path, home):
    both.save_to_disk(tmp_path / "flowers")
    with tarfile.open(tmp_path / "flowers.tar", "w") as archive:
        archive.add(tmp_path / "flowers", "wrapping/flowers")
    assert found(tmp_path / "flowers.tar", home) == as_made()


def test_a_single_split_that_was_saved_leaves_the_parts_open(tmp_path, home):
    table(0, 30).save_to_disk(tmp_path / "flowers")
    assert found(tmp_path / "flowers", home) == as_made(test_from=None)


@pytest.mark.parametrize("names", [
    ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002-0a.parquet", "data/test-00000-of-00001.parquet"),
    ("default/train/0000.parquet", "default/partial-train/0001.parquet", "default/test/0000.parquet"),
    ("train-a.parquet", "train.parquet", "test.parquet"),
])  # fmt: skip
def test_a_clone_with_parquet_shards_is_read_as_the_hub_names_them(both, tmp_path, home, names):
    for name, made in zip(names, (table(0, 10), table(10, 20), both["test"]), strict=True):
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        made.to_parquet(tmp_path / "clone" / name)
    (tmp_path / "clone/.git").mkdir()
    (tmp_path / "clone/README.md").write_text("---\n---\n")
    if names[0] == "train-a.parquet":  # of a split called so, which is none of ours
        wanted = as_made()
        for i in range(10):
            key = (NAMES[i % 3], None)
            wanted.setdefault(key, Counter())[PICTURES[i]] += 1
            wanted[NAMES[i % 3], Part.TRAIN][PICTURES[i]] -= 1
        assert found(tmp_path / "clone", home) == {key: +count for key, count in wanted.items()}
        return
    assert found(tmp_path / "clone", home) == as_made()


def test_the_library_itself_has_the_same_pictures_and_classes(both, tmp_path, home):
    for split, made in both.items():
        made.to_parquet(tmp_path / f"clone/data/{split}-00000-of-00001.parquet")
    theirs = hf.load_dataset(str(tmp_path / "clone"), cache_dir=str(tmp_path / "cache"))
    seen: dict[tuple[str, str | None], Counter[bytes]] = {}
    for split, made in theirs.items():
        for row in made.cast_column("image", hf.Image(decode=False)):
            key = (made.features["label"].int2str(row["label"]), str(split))
            seen.setdefault(key, Counter())[row["image"]["bytes"]] += 1
    assert found(tmp_path / "clone", home) == seen


def test_tables_of_other_programs_are_read_by_their_types(tmp_path, home):
    columns = {
        "id": pa.array([0.5] * 30),
        "jpg": pa.array(PICTURES),
        "label": pa.array([f"c{i % 2}" for i in range(30)]),
    }
    (tmp_path / "plain").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "plain/all.parquet")
    assert {label for label, _ in found(tmp_path / "plain", home)} == {"c0", "c1"}


def test_pictures_are_written_once_and_again_if_the_table_changes(tmp_path, home):
    table(0, 20).to_parquet(tmp_path / "a/train.parquet")
    spec = DatasetSpec(source=str(tmp_path / "a"))
    first = catalog.fetch(spec, home).root
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*.*")}
    assert catalog.fetch(spec, home).root == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*.*")} == before
    table(0, 21).to_parquet(tmp_path / "a/train.parquet")
    assert catalog.fetch(spec, home).root != first


def test_it_is_the_same_data_as_a_folder_of_these_pictures(write, tmp_path, home):
    table(0, 30).remove_columns([]).to_parquet(tmp_path / "hub/train.parquet")
    root = write({f"{'rose' if i % 3 == 0 else 'other'}/{i}.png": one for i, one in enumerate(PICTURES)})
    rename = ("T-shirt/top=other", "../x=other")
    one = prepare(DatasetSpec(source=str(tmp_path / "hub"), size=8, rename=rename), home).images.snapshot
    other = prepare(DatasetSpec(source=str(root), size=8), home).images.snapshot
    assert sorted(one.digests) == sorted(other.digests)
    assert one.classes == other.classes


def test_pictures_without_a_class_are_left_out_and_counted(tmp_path, home):
    made = table(0, 20).map(
        lambda row: {"label": -1 if row["label"] == 2 else row["label"]}, load_from_cache_file=False
    )
    made.to_parquet(tmp_path / "a/train.parquet")
    told: list[str] = []
    catalog.fetch(DatasetSpec(source=str(tmp_path / "a")), home, progress=lambda what, *_: told.append(what))
    assert "6 pictures without a class are left out" in told
    assert {label for label, _ in found(tmp_path / "a", home)} == set(NAMES[:2])


def test_a_picture_that_a_table_has_not_is_told_as_missing(tmp_path, home):
    rows = {"image": [{"bytes": PICTURES[0], "path": None}, None], "label": ["a", "b"]}
    hf.Dataset.from_dict(rows, features=hf.Features({"image": hf.Image(), "label": hf.Value("string")})).to_parquet(
        tmp_path / "a/train.parquet"
    )
    fetched = catalog.fetch(DatasetSpec(source=str(tmp_path / "a")), home)
    assert fetched.listing is not None
    assert len(listing.read(fetched.listing).missing) == 1


@pytest.mark.parametrize(
    ("columns", "label", "sentence"),
    [
        ({"coarse": ["x"] * 20}, None, None),  # the one that says that it has classes
        ({"coarse": ["x"] * 20}, "coarse", None),
        ({}, "colour", "has no column 'colour' of labels (dataset.label); use 'label'"),
    ],
)
def test_the_column_of_classes_is_told_by_its_type_or_chosen(tmp_path, home, columns, label, sentence):
    table(0, 20, **columns).to_parquet(tmp_path / "a/train.parquet")
    if sentence is None:
        classes = {name for name, _ in found(tmp_path / "a", home, label=label)}
        assert classes == ({"x"} if label else set(NAMES))
        return
    with pytest.raises(SourceError) as caught:
        found(tmp_path / "a", home, label=label)
    assert sentence in str(caught.value)


def test_a_saved_set_without_classes_is_not_said_to_be_damaged(tmp_path, home):
    table(0, 9).remove_columns(["label"]).save_to_disk(tmp_path / "a")
    with pytest.raises(SourceError, match=r"has no column of classes beside 'image'; name another data set") as caught:
        found(tmp_path / "a", home)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("limits", [Limits(files=8), Limits(total_bytes=1999)])
def test_a_small_table_that_becomes_very_many_pictures_is_refused(tmp_path, home, limits):
    one = pa.array([b"\x89PNG" + bytes(196)]).dictionary_encode()
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 10, pa.int32()), one.dictionary)
    pq.write_table(pa.table({"image": rows, "label": ["a", "b"] * 5}), tmp_path / "train.parquet")
    found = tables.shards(tmp_path, "here")
    with pytest.raises(SourceError, match=r"hold more than [\d,]+ pictures or [\d,]+ bytes; unpack them yourself"):
        unpack(tmp_path, found, "many", home, label=None, progress=lambda *_: None, limits=limits)
    assert not list(home.glob("many-*"))


def test_two_columns_of_classes_or_of_pictures_are_named(tmp_path, home):
    two = table(0, 9).add_column("fine", [0] * 9).cast_column("fine", hf.ClassLabel(names=["x"]))
    two.rename_column("label", "coarse").to_parquet(tmp_path / "a/train.parquet")
    with pytest.raises(SourceError, match=r"several columns of labels, 'coarse', 'fine'; choose by dataset.label"):
        found(tmp_path / "a", home)
    assert {name for name, _ in found(tmp_path / "a", home, label="fine")} == {"x"}
    other = hf.Dataset.from_dict(dict.fromkeys(("image", "mask"), PICTURES[:2]) | {"label": ["a", "b"]})
    other.cast_column("image", hf.Image()).cast_column("mask", hf.Image()).to_parquet(tmp_path / "b/train.parquet")
    with pytest.raises(SourceError, match="several columns of images, 'image', 'mask'"):
        found(tmp_path / "b", home)


def test_several_configurations_are_named(tmp_path, home):
    for config in ("letters", "balanced"):
        table(0, 9).to_parquet(tmp_path / f"a/{config}/train-00000-of-00001.parquet")
    with pytest.raises(SourceError, match=r"2 configurations, balanced, letters; name one, such as .*/a/balanced"):
        found(tmp_path / "a", home)
    assert found(tmp_path / "a/letters", home)


def test_paths_in_a_table_are_never_followed(tmp_path, home):
    secret = tmp_path / "secret.png"
    secret.write_bytes(PICTURES[0])
    column = pa.array([{"bytes": None, "path": str(secret)}], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    (tmp_path / "a").mkdir()
    pq.write_table(pa.table({"image": column, "label": ["a"]}), tmp_path / "a/train.parquet")
    with pytest.raises(SourceError, match=r"has paths instead of pictures, such as .*secret.png', which are not"):
        found(tmp_path / "a", home)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda root: (root / "state.json").write_text("{"),
            "state.json is missing or damaged; save the data set again",
        ),
        (lambda root: (root / "data-00000-of-00001.arrow").write_bytes(b"x" * 100), "is damaged"),
        (
            lambda root: (root / "state.json").write_text('{"_data_files": [{"filename": "../a.arrow"}]}'),
            "names '../a.arrow', which is no file beside it",
        ),
        (lambda root: (root / "data-00000-of-00001.arrow").unlink(), "cannot be read: No such file"),
    ],
)
def test_a_damaged_copy_is_one_sentence_and_leaves_nothing(tmp_path, home, damage, sentence):
    table(0, 9).save_to_disk(tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(SourceError) as caught:
        found(tmp_path / "a", home)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(home.glob("datasets/a-*"))


def test_pointers_of_git_lfs_are_told(tmp_path, home):
    (tmp_path / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    with pytest.raises(SourceError, match="is a pointer of Git LFS instead of the file; run `git lfs pull` there"):
        found(tmp_path, home)


def test_a_listing_among_pictures_stays_a_listing(write, home):
    root = write({"a/1.png": None, "b/1.png": None})
    pq.write_table(pa.table({"path": ["a/1.png"], "label": ["a"]}), root / "labels.parquet")
    assert {label for label, _ in found(root, home)} == {"a", "b"}


def test_bytes_that_are_no_pictures_make_no_table_of_a_folder(write, home):
    root = write({"a/1.png": None, "b/1.png": None})
    for name, cells in {"vectors": [bytes(16)] * 2, "nothing": [None] * 2, "late": [None, b"\x00\x01"]}.items():
        column = pa.array(cells, pa.binary())
        pq.write_table(pa.table({"embedding": column, "id": ["a", "b"]}), root / f"{name}.parquet")
    assert {label for label, _ in found(root, home)} == {"a", "b"}


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("name", ["more.parquet", "train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"])
def test_class_folders_are_taken_and_not_a_table_beside_them(write, home, monkeypatch, name, installed):
    root = write({"a/1.png": None, "b/1.png": None})
    table(0, 9).to_parquet(root / name)
    if not installed:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    told: list[str] = []
    spec = DatasetSpec(source=str(root))
    fetched = catalog.fetch(spec, home, progress=lambda what, *_: told.append(what))
    assert {one.label for one in gathered.listings([fetched], spec)[0].pictures} == {"a", "b"}
    assert told == [f"{root / name} is not read: the folders beside it hold pictures of several classes"]


def test_what_illustrates_a_table_makes_no_class_folders_of_its_folder(write, home):
    root = write({"assets/1.png": None, "assets/2.png": None, "train/3.png": None, "test/4.png": None})
    table(0, 30).to_parquet(root / "data/train-00000-of-00001.parquet")
    assert {label for label, _ in found(root, home)} == set(NAMES)


def test_without_pyarrow_a_table_that_is_all_there_is_names_the_extra(tmp_path, home, monkeypatch):
    table(0, 9).to_parquet(tmp_path / "a/flowers.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"flowers.parquet is a Parquet file, and pyarrow, which reads it, is not"):
        found(tmp_path / "a", home)


def test_without_pyarrow_a_saved_set_names_the_extra(tmp_path, home, monkeypatch):
    table(0, 9).save_to_disk(tmp_path / "a")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install 'trainserve\[hub\]'"):
        found(tmp_path / "a", home)


# --- imagefolder ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(write) -> Callable[..., Path]:
    """folder(rows, name) -> six pictures in train and test, with what is said of them in `name`."""

    def make(text: str, name: str = "metadata.csv") -> Path:
        files: dict[str, bytes | None] = {f"train/{i}.png": PICTURES[i] for i in range(4)}
        return write(files | {f"test/{i}.png": PICTURES[i] for i in (4, 5)} | {name: text.encode()})

    return make


CSV = "file_name,label\n" + "".join(f"{'train' if i < 4 else 'test'}/{i}.png,{'ab'[i % 2]}\n" for i in range(6))


def test_an_imagefolder_is_read_by_its_metadata(folder, home):
    rows = [dict(zip(("file_name", "label"), line.split(","), strict=True)) for line in CSV.split()[1:]]
    for name, text in (("metadata.csv", CSV), ("metadata.jsonl", "\n".join(map(json.dumps, rows)))):
        root = folder(text, name)
        seen = found(root, home)
        (root / name).unlink()
        assert {key: sum(count.values()) for key, count in seen.items()} == {
            ("a", Part.TRAIN): 2, ("b", Part.TRAIN): 2, ("a", Part.TEST): 1, ("b", Part.TEST): 1,
        }  # fmt: skip


def test_a_line_of_metadata_ends_where_json_lines_end(folder, home):
    rows = [{"file_name": f"train/{i}.png", "label": "ab"[i % 2], "caption": "one\u2028two\x85three"} for i in range(4)]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert {label for label, _ in found(folder(text, "metadata.jsonl"), home, label="label")} == {"a", "b"}


def test_a_longer_row_of_other_metadata_is_none_of_our_business(write, home):
    root = write({"a/1.png": None, "b/2.png": None, "metadata.csv": b"camera,lens\nx,y,z\n"})
    assert {label for label, _ in found(root, home)} == {"a", "b"}


def test_the_library_itself_reads_an_imagefolder_so(folder, home, tmp_path):
    root = folder("file_name,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(4)), "train/metadata.csv")
    (root / "test/metadata.csv").write_text("file_name,label\n4.png,a\n5.png,b\n")
    theirs = hf.load_dataset("imagefolder", data_dir=str(root), cache_dir=str(tmp_path / "cache"))
    seen: dict[tuple[str, str | None], Counter[bytes]] = {}
    for split, made in theirs.items():
        for row in made.cast_column("image", hf.Image(decode=False)):
            content = row["image"]["bytes"] or Path(row["image"]["path"]).read_bytes()
            seen.setdefault((row["label"], str(split)), Counter())[content] += 1
    assert found(root, home) == seen


def test_pictures_that_metadata_leaves_out_are_ignored_and_those_that_are_not_there_missing(folder):
    root = folder("file_name,label\ntrain/1.png,a\ntest/99.png,b\n")
    (one,) = gathered.listings([catalog.Fetched(root, "x", mirror=True)], DatasetSpec())
    assert one.missing == ("test/99.png",)
    assert "train/0.png" in one.ignored


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file_name,colour,season\ntrain/1.png,a,b\n", "several columns of labels, 'colour', 'season'; choose by"),
        ("file_name,label\n../1.png,a\n", "row 1: '../1.png' leads out of"),
        ("file_name,label\n/etc/1.png,a\n", "row 1: '/etc/1.png' is an absolute path"),
        ("file_name,label\n1.png,a\n2.png,b\n", "none of the 2 files that the metadata in"),
        ('file_name,label\n"1.png,a\n', "is no CSV"),
        ("file_name,label\ntrain/1.png,a,b\n", "line 2: 3 cells under 2 columns; put quotes around what holds a comma"),
        ("file_name,label\ntrain/1.png,a\ntrain/1.png,b\n", "row 2: 'train/1.png' is there twice, otherwise; leave"),
        ("file_name,mask_file_name,label\na,b,c\n", "several columns of images, 'file_name', 'mask_file_name'"),
    ],
)
def test_metadata_that_cannot_be_understood_is_one_sentence(folder, home, text, sentence):
    with pytest.raises(SourceError) as caught:
        found(folder(text), home)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_metadata_of_another_kind_is_a_file_like_others(write, home):
    root = write({"a/1.png": None, "b/2.png": None, "metadata.csv": b"camera,lens\nx,y\n"})
    assert {label for label, _ in found(root, home)} == {"a", "b"}


def test_two_metadata_files_beside_each_other_are_refused(folder, home):
    root = folder(CSV)
    (root / "metadata.jsonl").write_text('{"file_name": "train/1.png", "label": "a"}\n')
    with pytest.raises(SourceError, match="has another metadata file beside it"):
        found(root, home)


# --- the hub --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("hub:uoft-cs/cifar10", OnHub(repo="uoft-cs/cifar10")),
        ("hub:uoft-cs/cifar10@v1.0", OnHub(repo="uoft-cs/cifar10", revision="v1.0")),
        ("hub:tanganke/emnist/letters@refs/convert/parquet",
         OnHub(repo="tanganke/emnist", config="letters", revision="refs/convert/parquet")),
    ],
)  # fmt: skip
def test_an_address_of_the_hub_is_told_and_named(source, known):
    assert parse_source(source) == known
    assert default_name(known) in ("cifar10", "emnist")


@pytest.mark.parametrize(
    "source", ["hub:", "hub:mnist", "hub:../x", "hub:a/b@../c", "hub:a/b@", "hub:a/b/c/d", "hub:a b/c"]
)
def test_an_address_that_is_none_is_one_sentence(source):
    with pytest.raises(SourceError, match="is no data set of the hub; write hub:OWNER/NAME, hub:OWNER/NAME@REVISION"):
        parse_source(source)


def test_without_a_network_it_is_said_what_to_do(home, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError) as caught:
        catalog.fetch(DatasetSpec(source="hub:uoft-cs/cifar10"), home)
    assert str(caught.value).startswith("hub:uoft-cs/cifar10 could not be fetched (")
    assert "`hf download --repo-type dataset uoft-cs/cifar10 --local-dir FOLDER` and name that" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_its_library_the_extra_is_named(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SourceError, match=r"hub: needs huggingface_hub, .* pip install 'trainserve\[hub\]'"):
        catalog.fetch(DatasetSpec(source="hub:uoft-cs/cifar10"), home)


@pytest.fixture
def overloaded(monkeypatch) -> dict[str, int]:
    """How often the hub answers with status 503 to what has this in its address."""
    monkeypatch.setattr(time, "sleep", lambda _: None)  # of the library, before it asks once more
    return {}


@pytest.fixture
def hub(monkeypatch, overloaded) -> Iterator[dict[str, bytes]]:
    """The files of `garden/flowers` on a hub of this machine, of which the library knows no better."""
    stored: dict[str, bytes] = {}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, _ = self.path.partition("?")
            commit = hashlib.sha1(repr(sorted(stored.items())).encode()).hexdigest()
            headers = {"X-Repo-Commit": commit}
            if busy := [said for said, times in overloaded.items() if said in self.path and times > 0]:
                overloaded[busy[0]] -= 1
                status, body = 503, b""
            elif path == "/api/datasets/garden/flowers/revision/main":
                siblings = [
                    {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
                    for name, content in stored.items()
                ]
                told = {"id": "garden/flowers", "sha": commit, "siblings": siblings}
                status, body = 200, json.dumps(told).encode()
            elif path == f"/api/datasets/garden/flowers/tree/{commit}":
                entries = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in stored.items()
                ]
                status, body = 200, json.dumps(entries).encode()
            elif (name := path.removeprefix(f"/datasets/garden/flowers/resolve/{commit}/")) in stored:
                status, body = 200, stored[name]
                headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
            else:
                status, body, headers["X-Error-Code"] = 404, b"", _error(path)
            self.send_response(status)
            for one in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(*one)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - what http.server calls

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        yield stored
        server.shutdown()


def _error(path: str) -> str:
    return "RevisionNotFound" if "/garden/flowers/revision/" in path else "RepoNotFound"


def parquet_of(made: hf.Dataset) -> bytes:
    file = io.BytesIO()
    made.to_parquet(file)
    return file.getvalue()


def test_a_set_of_the_hub_is_fetched_once_and_read_without_any_code(hub, both, home, monkeypatch):
    hub |= {f"data/{split}-00000-of-00001.parquet": parquet_of(made) for split, made in both.items()}
    hub |= {"flowers.py": b"raise SystemExit", "README.md": b"# x", "model.bin": b"x" * 1000}
    assert found("hub:garden/flowers", home) == as_made()
    fetched = {path.name for path in (home / "datasets/downloads/hub").rglob("*") if path.is_file()}
    assert not fetched & {"flowers.py", "model.bin"}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert found("hub:garden/flowers", home) == as_made()  # and from then on without a network


def test_a_configuration_of_a_set_is_chosen_by_its_folder(hub, home):
    hub |= {f"{name}/train-00000-of-00001.parquet": parquet_of(table(0, 9)) for name in ("small", "large")}
    with pytest.raises(SourceError, match=r"2 configurations, large, small; name one, such as hub:garden/flowers/l"):
        found("hub:garden/flowers", home)
    assert found("hub:garden/flowers/small", home)


def test_pictures_of_the_hub_come_however_their_endings_are_written(hub, home):
    hub |= {"rose/1.JPG": PICTURES[1], "rose/2.jpg": PICTURES[4], "tulip/1.Png": PICTURES[0], "tulip/A.TIFF": b"x"}
    assert {label: sum(n.values()) for (label, _), n in found("hub:garden/flowers", home).items()} == {
        "rose": 2, "tulip": 2,
    }  # fmt: skip


def test_a_set_that_is_too_large_is_refused_before_anything_is_fetched(hub, home, monkeypatch):
    made = parquet_of(table(0, 9))
    hub |= {"data/train-00000-of-00001.parquet": made, "model.bin": bytes(len(made))}  # which is not asked for
    spec = DatasetSpec(source="hub:garden/flowers")
    monkeypatch.setattr(mirror, "MOST_BYTES", len(made) - 1)
    with pytest.raises(SourceError, match=rf"hub:garden/flowers has 1 files of {len(made):,} bytes, more than"):
        catalog.fetch(spec, home)
    assert not [path for path in home.rglob("*") if path.is_file() and path.stat().st_size]
    monkeypatch.setattr(mirror, "MOST_BYTES", len(made))
    catalog.fetch(spec, home)
    hub["notes.json"] = b"{}"  # of another commit, with what is here already
    catalog.fetch(spec, home)


def test_a_hub_that_cannot_tell_all_sizes_at_once_is_asked_for_them_page_by_page(hub, overloaded, home, monkeypatch):
    hub["data/train-00000-of-00001.parquet"] = parquet_of(table(0, 9))
    overloaded["blobs="] = 99
    monkeypatch.setattr(mirror, "MOST_BYTES", 1000)
    with pytest.raises(SourceError, match=r"hub:garden/flowers has 1 files of [\d,]+ bytes, more than"):
        catalog.fetch(DatasetSpec(source="hub:garden/flowers"), home)
    assert not [path for path in home.rglob("*") if path.is_file() and path.stat().st_size]


def test_what_nobody_says_the_size_of_is_not_fetched_and_a_copy_of_it_is_used(hub, overloaded, home):
    hub |= {f"{'ab'[i % 2]}/{i}.png": content for i, content in enumerate(PICTURES[:6])}
    spec = DatasetSpec(source="hub:garden/flowers")
    overloaded["/tree/"] = asked = 6  # times, after which the library gives up
    with pytest.raises(DownloadError, match=r"^hub:garden/flowers could not be fetched \(.*503.*\); check the network"):
        catalog.fetch(spec, home)
    assert overloaded["/tree/"] == 0
    assert not list(home.rglob("*.png"))
    before = catalog.fetch(spec, home)
    hub["a/new.png"] = PICTURES[7]
    overloaded["/tree/"] = asked
    told: list[str] = []
    assert catalog.fetch(spec, home, progress=lambda what, *_: told.append(what)) == before
    assert told[-1] == "hub:garden/flowers cannot be reached; using the copy of an earlier run"


def test_a_commit_during_a_run_is_for_the_next_one(hub, home):
    hub |= {f"{'ab'[i % 2]}/{i}.png": content for i, content in enumerate(PICTURES[:6])}
    spec = DatasetSpec(source="hub:garden/flowers")
    before = catalog.fetch(spec, home)
    hub["a/new.png"] = PICTURES[7]
    assert catalog.fetch(spec, home, again=True) == before
    after = catalog.fetch(spec, home)
    assert (after.root / "a/new.png").is_file()
    assert not (before.root / "a/new.png").exists()


def test_a_set_that_is_code_alone_is_refused_with_what_to_try(hub, home):
    hub |= {"flowers.py": b"raise SystemExit"}
    with pytest.raises(SourceError, match=r"code of a data set is never run; try hub:garden/flowers@refs/convert/"):
        catalog.fetch(DatasetSpec(source="hub:garden/flowers"), home)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("hub:garden/none", "there is no data set 'garden/none' on the hub, or it is private; check its name"),
        ("hub:garden/flowers@v9", "hub:garden/flowers has no revision 'v9'; name a branch, a tag or a commit"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_has_not_is_one_sentence(home, source, sentence):
    with pytest.raises(DownloadError) as caught:
        catalog.fetch(DatasetSpec(source=source), home)
    assert sentence in str(caught.value)
