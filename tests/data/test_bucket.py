"""Buckets: only what is missing or changed is fetched, nothing is half there, nothing lands elsewhere."""

import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data import catalog
from data.download import Patience
from data.errors import DownloadError, SourceError
from data.prepare import prepare
from data.sources import bucket as stores
from data.sources import mirror, objects, parts, remote
from data.sources.bucket import Bucket, State
from data.sources.kinds import Stored, default_name, parse_source
from data.spec import DatasetSpec

QUICK = Patience(attempts=3, first_wait_s=0.001, longest_wait_s=0.002)


@pytest.fixture
def put() -> Callable[..., str]:
    """put({"rose/1.png": b"..."}) -> the address of a bucket of its own."""
    name = uuid4().hex

    def write(files: dict[str, bytes]) -> str:
        store = fsspec.filesystem("memory")
        for key, content in files.items():
            store.pipe_file(f"/{name}/{key}", content)
        return f"memory://{name}"

    return write


class Rough(MemoryFileSystem):
    """A store that misbehaves as told, and counts what it is asked."""

    cachable = False
    store: dict[str, object]

    def __init__(self) -> None:
        super().__init__()
        self.store, self.pseudo_dirs = {}, [""]  # of its own
        self.listed = 0
        self.reads: list[tuple[str, int | None, int | None]] = []
        self.breaks: list[Exception | Callable[[], None]] = []

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.reads.append((path, start, end))
        if self.breaks:
            what = self.breaks.pop(0)
            if isinstance(what, Exception):
                raise what
            what()
        return super().cat_file(path, start=start, end=end, **kwargs)

    def find(self, path, max_items=None, **kwargs):
        found = super().find(path, **kwargs)
        found = found if max_items is None else dict([*found.items()][:max_items])
        self.listed = len(found)
        return found


@pytest.fixture
def rough(monkeypatch) -> Rough:
    monkeypatch.setattr(objects, "CHUNK", 1000)
    return Rough()


def bucket(store: Rough) -> Bucket:
    return Bucket(store, "memory", QUICK)


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def zipped(content: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, one in content.items():
            archive.writestr(name, one)
    return file.getvalue()


# --- what an address may be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name"),
    [("s3://garden/2026/flowers/", "flowers"), ("gs://garden", "garden"), ("s3://garden/a.tar.gz", "a")],
)
def test_an_address_of_a_bucket_is_told_and_named(source, name):
    assert parse_source(source) == Stored(url=source)
    assert default_name(parse_source(source)) == name


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("s3://", "names no bucket; write such as s3://bucket/folder"),
        ("s3://AKIA:swordfish@garden/flowers", "has a user or a password in it"),
        ("s3://AKIA:sword/swordfish@garden/flowers", "dataset.source s3://garden/flowers has a user or a password in"),
        ("s3://AKIA:swordfish@garden/flowers", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("s3://garden/a.zip?X-Amz-Signature=swordfish", "has a secret in it, as `X-Amz-Signature`"),
        ("s3://garden/a.zip?versionId=3", "has '?' in it"),
        ("s3://garden/../other", "has '/../' in it"),
        ("az://garden/flowers", "is no http or https address, and none of s3 or gs"),
    ],
)
def test_an_address_that_is_none_is_one_sentence(source, sentence):
    with pytest.raises(SourceError) as caught:
        parse_source(source)
    assert sentence in str(caught.value)
    assert "swordfish" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_without_its_library_the_extra_is_named(scheme, package):
    """In a process of its own: fsspec remembers what it once found."""
    code = (
        f"import sys; sys.modules[{package!r}] = None; from data.sources.bucket import opened; opened('{scheme}://a')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        f"data.errors.SourceError: {scheme}:// needs {package}, which is not installed; "
        f"pip install 'trainserve[{scheme}]'"
    )


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_of_a_bucket_is_a_data_set(put, png, home):
    pictures = {f"flowers/{label}/{i}.png": png(100 * n + i) for n, label in enumerate("ab") for i in range(20)}
    url = put(pictures | {"flowers/README.md": b"x", "flowers/model.tar": bytes(9), "other/c/1.png": png(999)})
    found = prepare(DatasetSpec(source=f"{url}/flowers/", size=8), home)
    assert {one.label: one.train + one.val + one.test for one in found.report.classes} == {"a": 20, "b": 20}
    assert found.report.name == "flowers"


def test_only_what_is_missing_or_changed_is_fetched_and_what_is_gone_goes(put, tmp_path):
    url = put({"rose/1.png": b"1", "rose/2.png": b"2", "tulip/1.png": b"3"})
    root = remote.folder(url, tmp_path, progress=print)
    assert files(root) == {"rose/1.png": b"1", "rose/2.png": b"2", "tulip/1.png": b"3"}
    before = {name: (root / name).stat() for name in files(root)}
    assert remote.folder(url, tmp_path, progress=print) == root
    assert {name: (root / name).stat() for name in files(root)} == before
    fsspec.filesystem("memory").rm(f"{url}/tulip", recursive=True)
    put({"rose/2.png": b"new", "daisy/1.png": b"4"})
    remote.folder(url, tmp_path, progress=print)
    assert files(root) == {"daisy/1.png": b"4", "rose/1.png": b"1", "rose/2.png": b"new"}
    assert (root / "rose/1.png").stat() == before["rose/1.png"]
    assert not (root / "tulip").exists()


def test_a_picture_that_was_touched_here_is_fetched_again(put, tmp_path):
    root = remote.folder(put({"rose/1.png": b"1", "rose/2.png": b"2"}), tmp_path, progress=print)
    (root / "rose/1.png").write_bytes(b"longer")
    (root / "rose/2.png").unlink()
    (root / "rose/mine.png").write_bytes(b"")
    assert files(remote.folder(put({}), tmp_path, progress=print)) == {"rose/1.png": b"1", "rose/2.png": b"2"}


@pytest.mark.slow
def test_thousands_of_keys_come_with_progress(put, tmp_path):
    wanted = {f"{i % 7}/{i}.png": str(i).encode() for i in range(3000)}
    told: list[tuple[str, int, int]] = []
    root = remote.folder(put(wanted), tmp_path, progress=lambda *step: told.append(step))
    assert files(root) == wanted
    assert told[-1] == ("fetching pictures", 3000, 3000)
    assert len(told) > 100


def test_an_interrupted_fetch_goes_on_with_what_is_missing(tmp_path, rough):
    for i in range(200):
        rough.pipe_file(f"/b/rose/{i}.png", b"x")
    names = [f"rose/{i}.png" for i in range(200)]

    def bring(name: str, version: str | None, target: Path) -> str:
        if version is not None:
            return version
        return objects.bring(bucket(rough), f"/b/{name}", target, State(1, "v"), keep_origin=False).version

    rough.breaks = [*[lambda: None] * 100, _interrupt]
    with pytest.raises(KeyboardInterrupt):
        mirror.update(tmp_path, names, bring, progress=lambda *_: None)
    first = len(rough.reads)
    assert not mirror.is_whole(tmp_path)
    there = len(mirror.known(tmp_path))
    assert 0 < there < 200
    mirror.update(tmp_path, names, bring, progress=lambda *_: None)
    assert len(rough.reads) - first == 200 - there
    assert mirror.is_whole(tmp_path)
    assert len(files(tmp_path)) == 200


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_journal_that_was_torn_by_a_kill_loses_one_picture_at_most(put, tmp_path):
    root = remote.folder(put({"a/1.png": b"1", "a/2.png": b"2"}), tmp_path, progress=print)
    log = root / mirror.LOG
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + lines[1][:-5])
    assert len(mirror.known(root)) == 1
    assert not mirror.is_whole(root)
    assert len(files(remote.folder(put({}), tmp_path, progress=print))) == 2


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("rose/../../../escaped.png", "which leads out of the folder"),
        ("/etc/1.png", "which leads out of the folder"),
        ("C:/1.png", "which leads out of the folder"),
        ("rose//1.png", "in which a folder has no name"),
        ("rose/./1.png", "in which a folder has no name"),
        ("rose\\..\\1.png", "a character that no file name should have"),
        ("rose/a\nb.png", "a character that no file name should have"),
        ("rose/\0.png", "a character that no file name should have"),
        (mirror.LOG, "as which this project keeps what it has not fetched wholly"),
        ("rose/1.png.part", "as which this project keeps what it has not fetched wholly"),
        (f"rose/{'x' * 250}.png", "longer than a file name may be"),
    ],
)
def test_a_key_that_leads_elsewhere_or_is_odd_is_refused_before_anything_is_fetched(tmp_path, rough, key, sentence):
    states = dict.fromkeys(["rose/1.png", key], State(1, "v"))
    with pytest.raises(SourceError) as caught:
        remote.fetch(bucket(rough), "/b", states, tmp_path / "root", "memory://b", print)
    assert sentence in str(caught.value)
    assert not rough.reads
    assert not (tmp_path / "root").exists()


def test_a_key_that_is_a_file_and_a_folder_is_refused():
    with pytest.raises(SourceError, match=r"'a.png' as a file and as a folder"):
        mirror.refuse_names(["a.png", "a.png/b/c.png"], "s3://b")


def test_too_many_files_and_too_little_room_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SourceError, match=r"s3://b has 1,000,001 files .* fetch it yourself"):
        mirror.refuse_size(1_000_001, 1, tmp_path, "s3://b")
    monkeypatch.setattr(mirror, "MOST_BYTES", 2**62)
    with pytest.raises(SourceError, match=r"bytes to be fetched, and .* has room for"):
        mirror.refuse_size(1, 2**61, tmp_path, "s3://b")


def test_names_are_not_looked_for_in_a_list_of_names():
    class Names(list[str]):
        def __contains__(self, name: object) -> bool:
            raise AssertionError("each of a hundred thousand is compared with all others")

    mirror.refuse_names(Names(["a/1.png", "a/2.png"]), "s3://b")


def test_a_folder_without_end_is_not_listed_to_its_end(rough, monkeypatch):
    for i in range(30):
        rough.pipe_file(f"/b/notes/{i}.txt", b"x")
    monkeypatch.setattr(stores, "MOST_BELOW", 10)
    for scheme, listed in (("s3", 11), ("memory", 30)):
        with pytest.raises(SourceError, match=rf"below {scheme}://b/notes lie more than 10 objects; name a folder"):
            Bucket(rough, scheme, QUICK).below("/b/notes")
        assert rough.listed == listed
    monkeypatch.setattr(stores, "MOST_BELOW", 30)
    assert len(Bucket(rough, "s3", QUICK).below("/b/notes")) == 30


@pytest.mark.parametrize("source", ["flowers", "flowers/labels.csv", "flowers.zip"])
def test_what_comes_in_during_a_run_is_for_the_next_one(put, png, home, source):
    """Every process of a run looks at the pictures; the first of them alone asks the bucket."""
    pictures = {f"{label}/{i}.png": png(100 * n + i) for n, label in enumerate("ab") for i in range(9)}
    url = put(bucket_of(pictures))
    spec = DatasetSpec(source=f"{url}/{source}", size=8)
    before = prepare(spec, home).images.snapshot
    put(bucket_of(pictures | {"b/new.png": png(500)}))
    assert prepare(spec, home, again=True).images.snapshot.fingerprint == before.fingerprint
    after = prepare(spec, home).images.snapshot
    assert len(after.files) == len(before.files) + 1


def bucket_of(pictures: dict[str, bytes]) -> dict[str, bytes]:
    """As a folder, a listing, an archive."""
    lines = "path,label\n" + "".join(f"{name},{name[0]}\n" for name in pictures)
    folder = {f"flowers/{name}": content for name, content in pictures.items()}
    return folder | {"flowers/labels.csv": lines.encode(), "flowers.zip": zipped(pictures)}


def test_a_copy_that_is_not_whole_any_more_is_told_in_the_middle_of_a_run(put, png, home):
    url = put({f"{label}/{i}.png": png(100 * n + i) for n, label in enumerate("ab") for i in range(9)})
    spec = DatasetSpec(source=url, size=8)
    root = prepare(spec, home).images.snapshot.root
    (root / mirror.LOG).unlink()
    with pytest.raises(SourceError, match=r"the copy of memory://.* in .* is not whole any more; run again, which fet"):
        prepare(spec, home, again=True)
    prepare(spec, home)
    prepare(spec, home, again=True)


def test_a_file_becomes_a_folder_and_a_folder_a_file(put, tmp_path):
    url = put({"a/b.png": b"1", "c.png/d.png/1.png": b"2", "e.png": b"3"})
    root = remote.folder(url, tmp_path, progress=print)
    store = fsspec.filesystem("memory")
    store.rm(url, recursive=True)
    put_there = {"a/b.png/1.png": b"4", "c.png": b"5", "e.png": b"3"}
    for key, content in put_there.items():
        store.pipe_file(f"{url.removeprefix('memory:/')}/{key}", content)
    assert files(remote.folder(url, tmp_path, progress=print)) == put_there
    assert root.is_dir()


@pytest.mark.parametrize(("names", "whole"), [(["a/1.png", "b.png"], True), (["a/1.png", "b.png/2.png"], False)])
def test_a_copy_of_which_a_file_made_way_for_a_folder_is_not_whole_until_all_has_come(tmp_path, names, whole):
    def bring(_: str, version: str | None, target: Path) -> str:
        if version is None:
            target.write_bytes(b"x")
        return "v"

    def away(*_: object) -> None:
        raise DownloadError("the store does not answer")

    mirror.update(tmp_path, ["a/1.png", "b.png"], bring, progress=lambda *_: None)
    with pytest.raises(DownloadError, match="does not answer"):
        mirror.update(tmp_path, names, away, progress=lambda *_: None)
    assert mirror.is_whole(tmp_path) == whole


def test_a_bucket_without_pictures_is_one_sentence(put, tmp_path):
    with pytest.raises(SourceError, match=r"there is no picture below memory://.*; check the address"):
        remote.folder(put({"notes.txt": b"x"}), tmp_path, progress=print)


# --- single objects -------------------------------------------------------------------------------------------------


def test_an_archive_of_a_bucket_is_fetched_and_unpacked_once(put, home):
    url = put({"sets/flowers.zip": zipped({"rose/1.png": b"1", "tulip/2.png": b"2"})})
    found = catalog.fetch(DatasetSpec(source=f"{url}/sets/flowers.zip"), home)
    assert files(found.root) == {"rose/1.png": b"1", "tulip/2.png": b"2"}
    assert found.name == "flowers"
    assert catalog.fetch(DatasetSpec(source=f"{url}/sets/flowers.zip"), home) == found
    put({"sets/flowers.zip": zipped({"rose/1.png": b"new"})})
    assert files(catalog.fetch(DatasetSpec(source=f"{url}/sets/flowers.zip"), home).root) == {"rose/1.png": b"new"}


def test_parts_of_an_archive_in_a_bucket_are_all_fetched(put, home):
    whole = zipped({"rose/1.png": b"1" * 500})
    url = put({"f.zip.001": whole[:100], "f.zip.002": whole[100:], "deeper/f.zip.003": b"", "g.zip.001": b""})
    found = catalog.fetch(DatasetSpec(source=f"{url}/f.zip.001"), home)
    assert files(found.root) == {"rose/1.png": b"1" * 500}
    put({"f.zip.004": b""})
    with pytest.raises(SourceError, match=r"f.zip.003 is missing between f.zip.002 and f.zip.004"):
        catalog.fetch(DatasetSpec(source=f"{url}/f.zip.001"), home)


def test_an_archive_that_has_fewer_parts_by_now_is_read_without_the_old_ones(put, home):
    url = put({f"f.tar.{part}": b"x" * 100 for part in ("000", "001", "002")})
    root = home / "downloads"
    first = remote.archive(f"{url}/f.tar.000", root, progress=print)
    assert len(parts.of(first)) == 3
    fsspec.filesystem("memory").rm(f"{url}/f.tar.002")
    assert remote.archive(f"{url}/f.tar.000", root, progress=print) == first
    assert parts.of(first) == (first, first.with_name("f.tar.001"))


def test_an_object_that_is_not_there_is_one_sentence(put, home):
    with pytest.raises(DownloadError, match=r"there is no memory://.*/f.zip; check the address"):
        catalog.fetch(DatasetSpec(source=put({"g.zip": b""}) + "/f.zip"), home)


def test_an_object_that_goes_while_it_is_fetched_is_one_sentence_and_leaves_the_copy_of_before(tmp_path, rough):
    rough.pipe_file("/b/f.zip", b"a" * 5000)
    before = objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip").read_bytes()
    rough.pipe_file("/b/f.zip", b"b" * 5000)
    rough.breaks = [lambda: None, lambda: rough.rm_file("/b/f.zip")]
    with pytest.raises(DownloadError, match=r"there is no memory://b/f.zip; check the address"):
        objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip")
    assert (tmp_path / "f.zip").read_bytes() == before


def test_a_large_object_goes_on_where_it_broke(tmp_path, rough):
    content = bytes(range(256)) * 40  # of 10,240 bytes, 11 chunks
    rough.pipe_file("/b/f.zip", content)
    store, target = bucket(rough), tmp_path / "f.zip"
    rough.breaks = [*[lambda: None] * 4, *[ConnectionResetError("gone")] * QUICK.attempts]
    with pytest.raises(DownloadError, match=r"could not be fetched after 3 attempts \(gone\); check the network"):
        objects.download(store, "/b/f.zip", target)
    assert not target.exists()
    rough.reads.clear()
    assert objects.download(store, "/b/f.zip", target).read_bytes() == content
    assert [start for _, start, _ in rough.reads] == list(range(4000, 10240, 1000))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["f.zip", "f.zip.origin.json"]


def test_what_was_fetched_of_another_version_is_not_built_upon(tmp_path, rough):
    rough.pipe_file("/b/f.zip", b"a" * 5000)
    rough.breaks = [*[lambda: None] * 2, *[OSError("gone")] * QUICK.attempts]
    with pytest.raises(DownloadError):
        objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip")
    rough.pipe_file("/b/f.zip", b"b" * 5000)
    assert objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip").read_bytes() == b"b" * 5000


@pytest.mark.parametrize("size", [3000, 5000, 7000])
def test_an_object_that_changes_while_it_is_fetched_is_fetched_anew(tmp_path, rough, size):
    rough.pipe_file("/b/f.zip", b"a" * 5000)
    rough.breaks = [lambda: None] * 2 + [lambda: rough.pipe_file("/b/f.zip", b"b" * size)]
    assert objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip").read_bytes() == b"b" * size


@pytest.mark.parametrize("size", [0, 5, 20, 900])
def test_a_small_object_that_is_another_one_by_now_is_whole(tmp_path, rough, size):
    rough.pipe_file("/b/1.png", b"b" * size)
    brought = objects.bring(bucket(rough), "/b/1.png", tmp_path / "1.png", State(10, "of before"), keep_origin=False)
    assert (tmp_path / "1.png").read_bytes() == b"b" * size
    assert brought == bucket(rough).state("/b/1.png")
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_an_object_that_never_stays_the_same_is_given_up(tmp_path, rough):
    rough.pipe_file("/b/f.zip", b"a" * 1500)
    rough.breaks = [lambda: rough.pipe_file("/b/f.zip", b"b" * 1500)] * 50
    with pytest.raises(DownloadError, match=r"memory://b/f.zip changed 3 times while it was fetched; run again"):
        objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip")
    assert not (tmp_path / "f.zip").exists()


def test_a_store_that_cannot_be_reached_leaves_the_copy_of_an_earlier_run(tmp_path, rough, monkeypatch):
    rough.pipe_file("/b/f.zip", b"a")
    objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip")
    told: list[str] = []
    monkeypatch.setattr(rough, "info", _refused)
    objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip", progress=lambda what, *_: told.append(what))
    assert told == ["memory://b/f.zip cannot be reached; using the copy of an earlier run"]
    with pytest.raises(DownloadError, match="check the network"):
        objects.download(bucket(rough), "/b/g.zip", tmp_path / "g.zip")


def _refused(*_: object, **__: object) -> None:
    raise ConnectionRefusedError("no")


def test_what_a_library_says_is_told_without_secrets(tmp_path, rough):
    rough.pipe_file("/b/f.zip", b"a")
    rough.breaks = [OSError("GET http://me:swordfish@host/b/f.zip?X-Amz-Signature=swordfish failed")] * 3
    with pytest.raises(DownloadError) as caught:
        objects.download(bucket(rough), "/b/f.zip", tmp_path / "f.zip")
    assert "swordfish" not in str(caught.value)
    assert "GET http://host/b/f.zip failed" in str(caught.value)
    assert caught.value.__cause__ is None


# --- listings -------------------------------------------------------------------------------------------------------


def test_a_listing_of_a_bucket_brings_its_pictures_and_no_others(put, png, home):
    lines = "path,label,split\n" + "".join(f"shots/{i}.png,{'ab'[i % 2]},\n" for i in range(40)) + "shots/99.png,a,\n"
    pictures = {f"sets/shots/{i}.png": png(i) for i in range(60)}
    url = put(pictures | {"sets/labels.csv": lines.encode(), "sets/huge/1.png": b"x"}) + "/sets/labels.csv"
    spec = DatasetSpec(source=url, size=8)
    found = prepare(spec, home)
    assert (found.report.name, len(found.images.snapshot.files)) == ("labels", 40)
    assert [one.rule for one in found.report.findings if one.rule == "missing"] == ["missing"]
    root = catalog.fetch(spec, home).root
    assert sorted(files(root)) == sorted(
        ["labels.csv", "labels.csv.origin.json", *(f"shots/{i}.png" for i in range(40))]
    )


def test_a_listing_that_gets_shorter_takes_its_pictures_along(put, home):
    url = put({"l.csv": b"path,label\n1.png,a\n2.png,b\n", "1.png": b"1", "2.png": b"2"})
    root = catalog.fetch(DatasetSpec(source=f"{url}/l.csv"), home).root
    put({"l.csv": b"path,label\n2.png,b\n"})
    assert catalog.fetch(DatasetSpec(source=f"{url}/l.csv"), home).root == root
    assert sorted(files(root)) == ["2.png", "l.csv", "l.csv.origin.json"]
    assert mirror.is_whole(root)


def test_a_listing_of_which_nothing_is_there_leaves_what_was_fetched(put, home):
    url = put({"l.csv": b"path,label\nold/1.png,a\nold/2.png,b\n", "old/1.png": b"1", "old/2.png": b"2"})
    root = catalog.fetch(DatasetSpec(source=f"{url}/l.csv"), home).root
    put({"l.csv": b"path,label\nnew/1.png,a\nnew/2.png,b\n"})
    with pytest.raises(SourceError, match=r"none of the 2 files that memory://.*l.csv lists is there, such as 'new/1"):
        catalog.fetch(DatasetSpec(source=f"{url}/l.csv"), home)
    assert {"old/1.png", "old/2.png"} <= files(root).keys()


def test_a_listing_that_leads_out_of_the_bucket_is_refused(put, home):
    url = put({"l.csv": b"path,label\n../1.png,a\n"})
    with pytest.raises(SourceError, match="leads out of the listing's folder"):
        catalog.fetch(DatasetSpec(source=f"{url}/l.csv"), home)


def test_a_listing_with_another_sha256_is_refused(put, home):
    url = put({"l.csv": b"path,label\n1.png,a\n2.png,b\n", "1.png": b"1", "2.png": b"2"}) + "/l.csv"
    with pytest.raises(
        DownloadError, match=r"l.csv has sha256 \w{12}\.\.\., expected 000000000000\.\.\.; check dataset.sh"
    ):
        catalog.fetch(DatasetSpec(source=url, sha256="0" * 64), home)
    assert not list(home.rglob("*.png"))
    right = hashlib.sha256(b"path,label\n1.png,a\n2.png,b\n").hexdigest()
    assert catalog.fetch(DatasetSpec(source=url, sha256=right), home)


def test_an_archive_of_a_bucket_with_another_sha256_is_refused(put, home):
    url = put({"f.zip": zipped({"rose/1.png": b"1"})}) + "/f.zip"
    with pytest.raises(
        DownloadError, match=r"f.zip has sha256 .*, expected 000000000000\.\.\.; fetch it again or corr"
    ):
        catalog.fetch(DatasetSpec(source=url, sha256="0" * 64), home)
    assert not list(home.rglob("*.png"))
