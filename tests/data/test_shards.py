"""Shards: written the same each time, read whoever wrote them, and told in a sentence where something is wrong."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import catalog, snapshot
from data.errors import InputError, SourceError
from data.shards import bucket, index, order
from data.shards.place import Local
from data.shards.sample import entries_of
from data.shards.stream import Streamed
from data.shards.tar import BLOCK, END, FILLED, Member, members, packed
from data.shards.write import write
from data.snapshot import Snapshot
from data.sources import gathered
from data.sources.kinds import default_name, parse_source
from data.spec import DatasetSpec, ImageSpec, Part

ROOT = Path(__file__).parents[2]
FOUR = {"a/1.png": None, "a/2.png": None, "b/3.png": None, "b/4.png": None}


def taken(source: Path | str | DatasetSpec, home: Path) -> Snapshot:
    """As `prepare` lists it."""
    spec = source if isinstance(source, DatasetSpec) else DatasetSpec(source=str(source))
    fetched = catalog.fetch(spec, home)
    listings = gathered.listings([fetched], spec)
    return snapshot.take(fetched.root, fetched.name, fetched.mirror, home=home, listings=listings)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def tar(tmp_path) -> Callable[..., Path]:
    """tar({"1.png": b"...", ...}) -> a folder with the shard 0.tar, as Python's tarfile writes it."""

    def write_tar(files: dict[str, bytes], called: str = "0.tar", **how: int) -> Path:
        folder = tmp_path / "others"
        folder.mkdir(exist_ok=True)
        with tarfile.open(folder / called, "w", **how) as out:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
        return folder

    return write_tar


# Written


def test_shards_hold_the_same_pictures_as_their_source(write, home, tmp_path):
    listed = taken(write({f"{part}/{name}": None for part in ("train", "test") for name in FOUR}), home)
    assert index_of(write_shards(listed, tmp_path / "shards")).shards[0].name == "000000.tar"
    again = taken(tmp_path / "shards", home)
    assert again.fingerprint == listed.fingerprint
    assert set(again.parts) == {Part.TRAIN, Part.TEST}
    assert [hashlib.sha256(again.content(row)).hexdigest() for row in range(8)] == list(again.digests)
    assert again.path(3).read_bytes() == again.content(3)


def test_shards_are_a_function_of_the_pictures_and_each_holds_all_kinds(write, home, tmp_path):
    listed = taken(write({f"{k}/{n}.png": None for k in "ab" for n in range(60)}), home)
    sizes = [len(rows) for rows in many(listed, tmp_path / "one")]
    assert len(sizes) > 3
    many(listed, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    found = index_of(tmp_path / "one")
    for shard in range(len(sizes) - 1):
        assert {one.label for one, at in zip(found.entries, found.shard, strict=True) if at == shard} == {"a", "b"}


def test_other_readers_find_number_and_name_of_the_class(write, home, tmp_path):
    write_shards(taken(write(FOUR), home), tmp_path / "shards")
    with tarfile.open(tmp_path / "shards/000000.tar") as there:
        files = {one.name: there.extractfile(one).read() for one in there}
    keys = sorted({name.partition(".")[0] for name in files})
    assert keys == ["000000000", "000000001", "000000002", "000000003"]
    for key in keys:
        said = json.loads(files[f"{key}.json"])
        assert said["label"] == "ab"[int(files[f"{key}.cls"])]
        assert said["file"].startswith(f"{said['label']}/")
        assert files[f"{key}.png"][:4] == b"\x89PNG"


KILLED = """
import sys
from pathlib import Path
from data import whole
from data.shards import write
from tests.data.test_shards import many, taken

kept, count = whole.write, []
def killed(path, content):
    count.append(path)
    if len(count) == int(sys.argv[3]):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    return kept(path, content)
listed = taken(sys.argv[1], Path(sys.argv[2]))
whole.write = killed
many(listed, Path(sys.argv[4]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("writes", [2, 3, 6])
def test_a_writer_that_was_killed_goes_on(write, home, tmp_path, writes):
    source = write({f"{k}/{n}.png": None for k in "ab" for n in range(40)})
    to = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(home), str(writes), str(to)], cwd=ROOT, check=False
    )
    assert done.returncode < 0
    assert not (to / "index.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in to.glob("*.tar.index")}
    with pytest.raises(SourceError, match="are not all written; give the command that wrote them again"):
        index_of(to)
    listed = taken(source, home)
    many(listed, to)
    many(listed, tmp_path / "whole")
    assert contents(to) == contents(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items()), "what was done is not done again"


def test_a_writer_that_was_killed_when_all_was_done_makes_an_end_of_it(write, home, tmp_path):
    listed = taken(write(FOUR), home)
    shards = write_shards(listed, tmp_path / "shards")
    plan = json.loads((shards / "index.json").read_text())["plan"]
    (shards / "begun.json").write_text(json.dumps({"plan": plan}))
    write_shards(listed, shards)
    assert len(index_of(shards).entries) == 4


def test_shards_are_written_of_shards_without_a_file_for_each_picture(write, home, tmp_path):
    first = write_shards(taken(write(FOUR), home), tmp_path / "first")
    second = write_shards(taken(first, home), tmp_path / "second")
    assert taken(second, home).fingerprint == taken(first, home).fingerprint
    assert not (home / "datasets/shards/pictures").exists()


def test_shards_are_called_as_what_they_were_written_from(write, home, tmp_path):
    """By the name one knows which pictures are kept for the test, and what was decided of them."""
    source = write(FOUR, "My Flowers")
    shards = write_shards(taken(source, home), tmp_path / "shards")
    assert taken(shards, home).name == default_name(parse_source(str(shards))) == "my-flowers"
    assert taken(DatasetSpec(source=str(shards), name="others"), home).name == "others"
    told = json.loads((shards / "index.json").read_text())
    (shards / "index.json").write_text(json.dumps(told | {"name": "../../etc"}))
    assert taken(shards, home).name == "etc"


def test_a_folder_with_anything_else_in_it_is_refused(write, home, tmp_path):
    listed = taken(write(FOUR), home)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years")
    with pytest.raises(InputError, match="mine holds files that are no shards of these pictures; name a new folder"):
        write_shards(listed, tmp_path / "mine")
    write_shards(listed, tmp_path / "shards")
    write_shards(listed, tmp_path / "shards")
    others = taken(write({"c/1.png": b"x", "d/1.png": b"y"}, "others"), home)
    with pytest.raises(InputError, match="shards holds shards of other pictures; name a new folder, or remove it"):
        write_shards(others, tmp_path / "shards")


def test_a_picture_that_changes_while_they_are_written_is_told(write, home, tmp_path):
    source = write(FOUR)
    listed = taken(source, home)
    (source / "b/4.png").write_bytes(b"changed")
    with pytest.raises(InputError, match=r"4\.png changed while shards were written; write them again"):
        write_shards(listed, tmp_path / "shards")
    assert not any(memory.exists() for memory in listed.memories), "or it would be taken for what it was once more"


# Read


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_shards_of_others_are_read(tar, png, home, how):
    long, named = "folder/" * 20 + "x" * 90, "ü/4" if how != tarfile.USTAR_FORMAT else "u/4"
    folder = tar(
        {
            "0001.jpg": png(1), "0001.cls": b"7\n",
            "a/0002.png": png(2), "a/0002.json": b'{"label": "rose", "split": "val", "group": 3, "time": "2026-03-01"}',
            **({f"{long}.webp": png(3), f"{long}.cls": b"8"} if how != tarfile.USTAR_FORMAT else {}),
            f"{named}.seg.png": png(4), f"{named}.cls": b"8", f"{named}.txt": b"a caption",
            "notes.txt": b"no picture",
        }, "roses-train-000.tar", format=how,
    )  # fmt: skip
    found = index.opened(Local(folder), home).entries
    assert [one.label for one in found] == ["7", "rose", *(["8"] if how != tarfile.USTAR_FORMAT else []), "8"]
    assert {one.part for one in found} == {Part.TRAIN, Part.VAL}, "the shard's name says train, one sample val"
    assert found[1].group == "3"
    assert found[1].time.startswith("2026-03-01T00:00")
    raw = (folder / "roses-train-000.tar").read_bytes()
    assert all(hashlib.sha256(raw[e.offset : e.offset + e.size]).hexdigest() == e.digest for e in found)


@pytest.mark.parametrize("order", [["1.mask.png", "1.jpg"], ["1.jpg", "1.mask.png"]])
def test_a_sample_is_the_picture_that_its_name_says_and_not_the_mask_beside_it(tar, png, home, order):
    folder = tar({**{name: png(number) for number, name in enumerate(order)}, "1.cls": b"0"})
    assert [one.name for one in index.opened(Local(folder), home).entries] == ["1.jpg"]


def test_texts_with_any_kind_of_line_end_in_them_are_read_again_as_they_were(tar, png, home):
    said = json.dumps({"label": "rose", "group": "north\u2028wing\x85 2"}).encode()
    folder = tar({"a\u2028b.jpg": png(1), "a\u2028b.json": said})
    first = index.opened(Local(folder), home).entries
    assert index.opened(Local(folder), home).entries == first
    assert first[0].name == "a\u2028b.jpg"


def test_shards_of_others_are_read_once_and_again_when_they_change(tar, png, home, monkeypatch):
    folder = tar({"1.jpg": png(1), "1.cls": b"0", "2.jpg": png(2), "2.cls": b"1"})
    reads = []
    monkeypatch.setattr(index, "entries_of", lambda *which: reads.append(which) or entries_of(*which))
    first = index.opened(Local(folder), home)
    assert index.opened(Local(folder), home).entries == first.entries
    assert len(reads) == 1
    tar({"1.jpg": png(9), "1.cls": b"0"})
    assert len(index.opened(Local(folder), home).entries) == 1


def test_an_index_is_not_believed_of_another_shard_of_the_same_size_and_time(tar, png, home):
    """As `cp -p` and `rsync -t` leave it."""
    folder = tar({"1.jpg": png(1), "1.cls": b"0"})
    before = (folder / "0.tar").stat()
    first = index.opened(Local(folder), home).entries
    other = png(1)[:-1] + b"x"
    tar({"1.jpg": other, "1.cls": b"0"})
    os.utime(folder / "0.tar", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (folder / "0.tar").stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    found = index.opened(Local(folder), home).entries
    assert found[0].digest == hashlib.sha256(other).hexdigest() != first[0].digest


def test_a_folder_of_shards_is_a_source_with_or_without_the_word(tar, write, png, home, tmp_path):
    write_shards(taken(write(FOUR), home), tmp_path / "shards")
    assert taken(tmp_path / "shards", home).digests == taken(f"shards:{tmp_path / 'shards'}", home).digests
    folder = tar({"1.jpg": png(1), "1.cls": b"0"})
    assert taken(f"shards:{folder}", home).files == ("0.tar/1.jpg",)
    with pytest.raises(SourceError, match="there is no file or folder 'nowhere/'"):
        taken("shards:nowhere", home)
    with pytest.raises(SourceError, match=r"holds no shard \(\*\.tar\); `trainserve data shards SOURCE --to DIR`"):
        taken(f"shards:{write({'x.txt': b''}, 'empty')}", home)


def test_an_index_beside_an_archive_makes_no_shards(write, home):
    assert len(taken(write(FOUR | {"index.json": b"{}", "flowers.tar.gz": b"x", "more.tar": b"x"}), home).files) == 4


def test_shards_are_not_joined_to_other_sources(write, home, tmp_path):
    source = write(FOUR)
    shards = write_shards(taken(source, home), tmp_path / "shards")
    for first, more in ((shards, source), (source, shards)):
        with pytest.raises(SourceError, match=r"dataset\.more cannot join shards; write all of the sources into one"):
            catalog.fetch_all(DatasetSpec(source=str(first), more=(str(more),)), home)


def test_classes_of_shards_are_renamed_as_those_of_folders(tar, png, home):
    folder = tar({"1.jpg": png(1), "1.cls": b"0", "2.jpg": png(2), "2.cls": b"1"})
    spec = DatasetSpec(source=f"shards:{folder}", rename=("0=rose", "1="))
    found = taken(spec, home)
    assert (found.classes, found.files) == (("rose",), ("0.tar/1.jpg",))


# What is wrong is named


def damaged(shard: Path, how: str) -> None:
    content = bytearray(shard.read_bytes())
    match how:
        case "cut in a picture":
            content = content[: BLOCK + 20]
        case "cut in a header":
            content = content[:300]
        case "a flipped bit in a header":
            content[3] ^= 4
        case "no tar":
            content = bytearray(b"<html>not found</html>" * 100)
        case "empty":
            content = bytearray()
        case "cut between two files":
            content = content[: 2 * BLOCK]
        case "zeros from the second file on":
            content[2 * BLOCK :] = bytes(len(content) - 2 * BLOCK + FILLED)
        case "another shard behind its end":
            content += bytes(content)
    shard.write_bytes(content)


WRONG = ["cut in a picture", "cut in a header", "a flipped bit in a header", "no tar", "empty"]
WRONG += ["cut between two files", "zeros from the second file on", "another shard behind its end"]


@pytest.mark.parametrize("how", WRONG)
def test_a_broken_shard_of_others_is_named(tar, png, home, how):
    folder = tar({"1.jpg": png(1), "1.cls": b"0"})
    damaged(folder / "0.tar", how)
    with pytest.raises(
        SourceError, match=r"^shard 0\.tar (is cut off|is damaged|ends) at byte [\d,]+.*; copy or write it"
    ):
        index.opened(Local(folder), home)


@pytest.mark.parametrize("how", ["cut in a picture", "empty", "gone", "other index"])
def test_a_broken_shard_of_ours_is_named(write, home, tmp_path, how):
    shards = write_shards(taken(write(FOUR), home), tmp_path / "shards")
    if how == "gone":
        (shards / "000000.tar").unlink()
    elif how == "other index":
        beside = shards / "000000.tar.index"
        head, *lines = beside.read_text().splitlines()
        entry = json.loads(lines[2])
        beside.write_text("\n".join([head, *lines[:2], json.dumps([entry[0], 10**12, *entry[2:]])]))
    else:
        damaged(shards / "000000.tar", how)
    with pytest.raises(SourceError, match=r"000000\.tar.*(copy or write it again|write the shard again)$") as told:
        taken(shards, home)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "holds a link at byte 0"),
        ({"type": tarfile.LNKTYPE, "linkname": "1.jpg"}, "holds a link"),
        ({"type": tarfile.CHRTYPE}, "holds a device"),
        ({"type": tarfile.FIFOTYPE}, "holds a pipe"),
        ({"name": "/etc/1.jpg"}, "holds '/etc/1.jpg', which is no name"),
        ({"name": "a/../../1.jpg"}, "which is no name of a file below a folder"),
    ],
)
def test_links_devices_and_names_that_lead_out_are_refused(tmp_path, home, member, said):
    info = tarfile.TarInfo("1.jpg")
    for name, value in member.items():
        setattr(info, name, value)
    with tarfile.open(tmp_path / "0.tar", "w") as out:
        out.addfile(info)
    with pytest.raises(SourceError, match=said):
        index.opened(Local(tmp_path), home)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"1.jpg": b"x"}, "sample 0.tar/1 has no class; give it a .cls, or a .json with a label"),
        ({"1.jpg": b"x", "1.json": b"[]"}, "the json of sample 0.tar/1 is no json object"),
        ({"1.jpg": b"x", "1.json": b'{"label": 1, "split": "tset"}'}, "is of split 'tset'; use train, val or test"),
        ({"1.jpg": b"x", "1.json": b'{"label": 1, "time": "noon"}'}, "has time 'noon'; write ISO 8601"),
        ({"1.jpg": b"x", "1.cls": b"7" * 70_000}, "1.cls of sample 0.tar/1 has 70,000 bytes"),
        ({"1.jpg": b"x", "1.cls": b"7" * 300}, "sample 0.tar/1 has no class"),
        ({"1.jpg": b"x", "1.png": b"y", "1.cls": b"7"}, "sample 0.tar/1 has 2 pictures, .jpg and .png; leave one"),
        ({"1.left.png": b"x", "1.right.png": b"y", "1.cls": b"7"}, "has 2 pictures, .left.png and .right.png"),
    ],
)
def test_a_sample_that_cannot_be_understood_is_named(tar, home, files, said):
    with pytest.raises(SourceError, match=said.replace(".", r"\.")):
        index.opened(Local(tar(files)), home)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 6 * BLOCK), place=st.integers(0, 6 * BLOCK - 1), other=st.integers(0, 255))
def test_no_bytes_lead_beyond_the_file_or_to_another_error(cut, place, other):
    raw = bytearray(packed("1.jpg", b"x" * 700) + packed("1.cls", b"3") + END)
    raw[place % len(raw)] = other
    raw = raw[:cut] if cut else raw
    found: list[Member] = []
    with suppress(SourceError):
        found += members(lambda size, at: bytes(raw[at : at + size]), len(raw), called="0.tar")
    assert all(0 < one.offset <= one.offset + one.size <= len(raw) for one in found)


def test_our_headers_are_those_of_tarfile(tmp_path):
    (tmp_path / "0.tar").write_bytes(packed("1.jpg", b"x" * 700) + packed("1.cls", b"3") + END)
    with tarfile.open(tmp_path / "0.tar") as there:
        assert [(one.name, one.size, one.mode, one.isreg()) for one in there] == [
            ("1.jpg", 700, 0o644, True),
            ("1.cls", 1, 0o644, True),
        ]


# In a bucket


@pytest.fixture
def memory() -> Iterator[str]:
    """The address of an empty bucket in memory."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.mkdirs("/flowers", exist_ok=True)
    yield "memory://flowers"
    system.rm("/flowers", recursive=True)


def uploaded(folder: Path, to: str) -> None:
    import fsspec

    for path in folder.iterdir():
        fsspec.filesystem("memory").pipe_file(f"{to}/{path.name}", path.read_bytes())


def test_shards_in_a_bucket_are_those_of_a_folder(write, home, tmp_path, memory):
    listed = taken(write(FOUR), home)
    many(listed, tmp_path / "shards")
    uploaded(tmp_path / "shards", memory)
    there = taken(f"shards:{memory}", home)
    assert there.fingerprint == listed.fingerprint
    assert there.name == listed.name
    assert [hashlib.sha256(there.content(row)).hexdigest() for row in range(4)] == list(there.digests)


def test_shards_in_a_bucket_are_known_where_the_word_is_missing(write, home, tmp_path, memory):
    write_shards(taken(write(FOUR), home), tmp_path / "shards")
    uploaded(tmp_path / "shards", f"{memory}/all")
    with pytest.raises(SourceError, match=rf"^{memory}/all holds shards; write shards:{memory}/all$"):
        taken(f"{memory}/all", home)


def test_of_a_bucket_only_so_much_stays_on_this_machine(write, home, tmp_path, memory, monkeypatch):
    listed = taken(write({f"{k}/{n}.png": None for k in "ab" for n in range(60)}), home)
    num = len(many(listed, tmp_path / "shards"))
    uploaded(tmp_path / "shards", memory)
    monkeypatch.setattr(bucket, "AT_LEAST", 2)
    monkeypatch.setenv("TRAINSERVE_SHARDS_GB", "0.00001")
    there = taken(f"shards:{memory}", home)
    assert [hashlib.sha256(there.content(row)).hexdigest() for row in range(120)] == list(there.digests)
    assert num > 3
    assert len(list((home / "datasets/shards").rglob("*.tar"))) <= 2
    monkeypatch.setenv("TRAINSERVE_SHARDS_GB", "much")
    with pytest.raises(SourceError, match="TRAINSERVE_SHARDS_GB is 'much'; give a number of gigabytes"):
        [there.content(row) for row in range(120)]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [0, 2])
def test_a_batch_finds_all_its_shards_whatever_the_limit(write, home, tmp_path, memory, monkeypatch, processes):
    listed = taken(write({f"{k}/{n}.png": None for k in "ab" for n in range(60)}), home)
    assert len(many(listed, tmp_path / "shards")) > 4
    uploaded(tmp_path / "shards", memory)
    monkeypatch.setattr(bucket, "AT_LEAST", 2)
    monkeypatch.setenv("TRAINSERVE_SHARDS_GB", "0.00001")
    image, rows = ImageSpec(height=6, width=6, channels=1), np.arange(120)
    streamed = Streamed(taken(f"shards:{memory}", home), rows, image)
    (found,) = streamed.batches([rows], processes=processes)
    there = Streamed(taken(tmp_path / "shards", home), rows, image)
    assert np.array_equal(found, there[rows])


def test_what_another_run_reads_stays_until_it_is_done_or_dead(write, home, tmp_path, memory, monkeypatch):
    many(taken(write({f"{k}/{n}.png": None for k in "ab" for n in range(60)}), home), tmp_path / "shards")
    uploaded(tmp_path / "shards", memory)
    monkeypatch.setattr(bucket, "AT_LEAST", 2)
    monkeypatch.setenv("TRAINSERVE_SHARDS_GB", "0.00001")
    one, other = (bucket.place_of(memory, home) for _ in range(2))
    names = sorted(name for name in one.sizes() if name.endswith(".tar"))

    def read_on() -> None:
        for name in names[1:]:
            other.file(name)

    with one.in_use():
        first = one.file(names[0])
        read_on()
        assert first.exists()
    (one.folder / ".killed.using").touch()
    other.file(names[-1]).unlink()
    read_on()
    assert not first.exists()
    assert [path.name for path in one.folder.glob(".*.using")] == []


def test_the_shards_that_come_next_are_fetched_while_others_are_read(write, home, tmp_path, memory):
    num = len(many(taken(write({f"{k}/{n}.png": None for k in "ab" for n in range(60)}), home), tmp_path / "shards"))
    uploaded(tmp_path / "shards", memory)
    there = taken(f"shards:{memory}", home)
    streamed = Streamed(there, np.arange(120), ImageSpec(height=6, width=6, channels=1))
    parts = streamed.parts(5)  # in the order in which they lie, so that each is of one or two shards
    first = next(streamed.batches(parts, processes=0))
    assert first.shape == (5, 6, 6, 1)
    (thread,) = there.shards.place._threads
    thread.join(30)
    assert len(list((home / "datasets/shards").rglob("*.tar"))) == min(num, 1 + order.WINDOW)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("shards:memory://nowhere", "memory://nowhere holds no shard"),
        ("shards:nothing://nowhere", "nothing://nowhere is no bucket; use s3:// or gs://"),
        ("shards:s3://KEY:secret@bucket/x", "would be kept with every run"),
    ],
)
def test_a_bucket_that_cannot_be_read_is_a_sentence(home, source, said):
    with pytest.raises(SourceError, match=said):
        taken(source, home)


@pytest.mark.slow
def test_training_pictures_come_out_of_s3(write, home, tmp_path, monkeypatch):
    import s3fs
    from moto.server import ThreadedMotoServer  # late: a second, for a test that is rarely run

    s3fs.S3FileSystem.clear_instance_cache()  # of a test before, which had no credentials
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name, value in (("ACCESS_KEY_ID", "me"), ("SECRET_ACCESS_KEY", "mine"), ("DEFAULT_REGION", "us-east-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        listed = taken(write({f"{k}/{n}.png": None for k in "ab" for n in range(30)}), home)
        many(listed, tmp_path / "shards")
        system = s3fs.S3FileSystem()
        system.mkdir("trainserve-test")
        for path in (tmp_path / "shards").iterdir():
            system.pipe_file(f"trainserve-test/flowers/{path.name}", path.read_bytes())
        there = taken("shards:s3://trainserve-test/flowers", home)
        assert there.fingerprint == listed.fingerprint
        assert [hashlib.sha256(there.content(row)).hexdigest() for row in range(60)] == list(there.digests)
        with pytest.raises(SourceError, match="s3://trainserve-test/tulips holds no shard"):
            taken("shards:s3://trainserve-test/tulips", home)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()  # or the next test of this process asks a server that is gone
        server.stop()


# The order


numbers = {"rows": st.integers(1, 300), "shards": st.integers(1, 40), "seed": st.integers(0, 9)}


def lying(rows: int, shards: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(some of all rows, the shard of every row)."""
    random = np.random.default_rng(seed)
    return np.sort(random.choice(2 * rows, rows, replace=False)), np.sort(random.integers(0, shards, 2 * rows))


@given(**numbers, epoch=st.integers(0, 3), window=st.integers(1, 9))
def test_every_picture_comes_once_an_epoch_and_a_window_of_shards_at_a_time(rows, shards, seed, epoch, window):
    own, where = lying(rows, shards, seed)
    shown = order.windowed(own, where, seed=seed, epoch=epoch, window=window)
    assert sorted(shown) == own.tolist()
    assert np.array_equal(shown, order.windowed(own, where, seed=seed, epoch=epoch, window=window))
    came = where[shown]
    spans = {shard: np.flatnonzero(came == shard) for shard in set(came.tolist())}
    for at in range(0, len(shown)):
        open_ = sum(places[0] <= at <= places[-1] for places in spans.values())
        assert open_ <= window


def test_epochs_and_seeds_have_their_own_orders():
    own, where = lying(300, 20, 0)
    orders = [order.windowed(own, where, seed=seed, epoch=epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(one) for one in orders}) == 4


def test_shards_sorted_by_class_are_mixed_as_far_as_their_window():
    """The stated quality: a batch is drawn from eight shards at once, others in each epoch."""
    where = np.repeat(np.arange(64), 500)
    rows = np.arange(len(where))
    partners: set[tuple[int, int]] = set()
    for epoch in range(3):
        shown = where[order.windowed(rows, where, seed=0, epoch=epoch)]
        batches = shown.reshape(-1, 64)[::10]
        several = [len(set(batch.tolist())) for batch in batches]
        assert np.median(several) == 8
        pairs = {(a, b) for batch in batches for a in set(batch.tolist()) for b in set(batch.tolist()) if a < b}
        assert len(pairs & partners) < 0.4 * len(pairs)
        partners |= pairs


@pytest.mark.slow
@given(**numbers, ranks=st.integers(1, 4), workers=st.integers(0, 3), batch=st.integers(1, 70))
def test_ranks_and_workers_decode_every_picture_once_between_them(rows, shards, seed, ranks, workers, batch):
    own, where = lying(rows, shards, seed)
    shown = order.windowed(own, where, seed=seed, epoch=1)
    decoded = []
    for step in np.split(shown, np.arange(batch, len(shown), batch)):
        shares = [step[order.share(len(step), rank, ranks)] for rank in range(ranks)]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert np.array_equal(np.concatenate(shares), step)
        for mine in shares:
            jobs = [mine[some] for some in order.jobs(len(mine), workers)]
            assert all(0 < len(job) <= order.JOB for job in jobs)
            decoded += [row for job in jobs for row in job.tolist()]
    assert sorted(decoded) == own.tolist()


def write_shards(listed: Snapshot, to: Path) -> Path:
    write(listed, to)
    return to


def many(listed: Snapshot, to: Path) -> list[np.ndarray]:
    """Shards of about ten small pictures."""
    from data.shards import write as module

    at_most = 10 * (100 + 5 * BLOCK)
    cut, module.planned = module.planned, lambda some, _: cut(some, at_most)
    try:
        module.write(listed, to)
        return module.planned(listed, 0)
    finally:
        module.planned = cut


def index_of(folder: Path) -> index.Index:
    return index.opened(Local(folder), folder.parent / "home")
