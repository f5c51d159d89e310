"""Shards that are written to a bucket: those of a folder, one at a time on this machine, and a kill costs one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data.errors import InputError, SourceError
from data.shards import upload
from data.shards.target import Folder
from data.shards.write import write
from data.snapshot import Snapshot
from tests.data.test_bucket import QUICK
from tests.data.test_bucket_s3 import s3, server  # noqa: F401 - fixtures
from tests.data.test_shards import ROOT, contents, many, taken

URL = "memory://garden/flowers"


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    system = fsspec.filesystem("memory")
    system.mkdirs("/garden", exist_ok=True)
    yield system
    system.rm("/garden", recursive=True)


@pytest.fixture
def listed(write: Callable[..., Path], home: Path) -> Snapshot:
    return taken(write({f"{k}/{n}.png": None for k in "ab" for n in range(30)}), home)


def there(system: MemoryFileSystem) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: system.cat_file(path) for path in system.find("/garden/flowers")}


def left(home: Path) -> list[Path]:
    return list((home / "datasets").rglob("*upload/*"))


def test_shards_in_a_bucket_are_those_of_a_folder(memory, listed, home, tmp_path):
    many(listed, upload.target_of(URL, home))
    many(listed, tmp_path / "shards")
    assert there(memory) == contents(tmp_path / "shards")
    assert left(home) == []
    assert taken(f"shards:{URL}", home).fingerprint == listed.fingerprint


@pytest.mark.usefixtures("memory")
def test_one_shard_at_a_time_takes_room_here_and_the_index_comes_last(listed, home, monkeypatch):
    lying: list[int] = []
    order: list[str] = []
    for name, send in (("put_file", MemoryFileSystem.put_file), ("pipe_file", MemoryFileSystem.pipe_file)):

        def sent(self, *which, send=send, **how):
            lying.append(len(left(home)))
            order.append(next(one for one in which if isinstance(one, str) and "garden" in one).rpartition("/")[2])
            return send(self, *which, **how)

        monkeypatch.setattr(MemoryFileSystem, name, sent)
    many(listed, upload.target_of(URL, home))
    assert max(lying) == 1
    assert order[:3] == ["begun.json", "000000.tar", "000000.tar.index"]
    assert order[-1] == "index.json"


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_writer_whose_network_went_goes_on_where_it_ended(memory, listed, home, tmp_path, monkeypatch, after):
    send, sent = MemoryFileSystem.put_file, []

    def broken(self, here, to, **how):
        if len(sent) == after:
            raise OSError("connection reset by s3://me:secret@peer")
        sent.append(to.rpartition("/")[2])
        return send(self, here, to, **how)

    monkeypatch.setattr(MemoryFileSystem, "put_file", broken)
    with pytest.raises(SourceError) as caught:
        many(listed, quick(home))
    assert re.match(
        r"memory://garden/flowers/00000\d\.tar could not be written after 3 attempts \(connection reset by s3://peer"
        r"\); check the network and give the command again, which goes on where it ended$",
        str(caught.value),
    )
    assert left(home) == []
    with pytest.raises(SourceError, match="are not all written; give the command that wrote them again"):
        taken(f"shards:{URL}", home)
    monkeypatch.setattr(
        MemoryFileSystem, "put_file", lambda *a, **k: sent.append(a[2].rpartition("/")[2]) or send(*a, **k)
    )
    many(listed, quick(home))
    assert len(sent) == len(set(sent)), "what is there is not sent again"
    many(listed, tmp_path / "shards")
    assert there(memory) == contents(tmp_path / "shards")
    many(listed, quick(home))
    assert len(sent) == len(set(sent)), "and nothing where all is"


def quick(home: Path) -> upload.Upload:
    """Does not wait between two attempts."""
    found = upload.target_of(URL, home)
    return replace(found, store=replace(found.store, patience=QUICK))


@pytest.mark.usefixtures("memory")
def test_a_shard_that_did_not_arrive_whole_is_told(listed, home, monkeypatch):
    monkeypatch.setattr(MemoryFileSystem, "put_file", lambda self, _, to: self.pipe_file(to, b"half"))
    with pytest.raises(SourceError, match=r"^memory://garden/flowers/000000\.tar has not all [\d,]+ bytes; give the"):
        many(listed, upload.target_of(URL, home))


@pytest.mark.parametrize("name", ["thesis.txt", "deep/below.txt", "index.json"])
def test_a_folder_of_a_bucket_with_anything_else_in_it_is_refused(memory, listed, home, name):
    memory.pipe_file(f"/garden/flowers/{name}", b"years")
    with pytest.raises(InputError, match=r"^memory://garden/flowers holds files that are no shards of these pictures"):
        write(listed, upload.target_of(URL, home))
    assert list(there(memory).values()) == [b"years"]


@pytest.mark.usefixtures("memory")
def test_shards_of_other_pictures_are_not_written_over(listed, write, home):
    from data.shards.write import write as write_shards

    write_shards(listed, upload.target_of(URL, home))
    others = taken(write({"c/1.png": b"x", "d/1.png": b"y"}, "others"), home)
    with pytest.raises(InputError, match="flowers holds shards of other pictures; name a new folder, or remove it"):
        write_shards(others, upload.target_of(URL, home))


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        (
            "ftp://garden/flowers",
            "shards cannot be written to ftp://garden/flowers; name a folder, or s3://BUCKET/FOLDER",
        ),
        (
            "s3://AKIA:swordfish@garden/x",
            "s3://garden/x was given with a user or a password in it; set it in the envir",
        ),
        ("s3://", "names no bucket"),
        ("s3://garden/a//b", "s3://garden/a//b has '//' in it, which no address of a bucket may have; leave it out"),
    ],
)
def test_what_is_no_bucket_is_one_sentence(home, to, sentence):
    with pytest.raises(SourceError) as caught:
        upload.target_of(to, home)
    assert sentence in str(caught.value)
    assert "swordfish" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_told_before_there_is_anything_to_write(home, monkeypatch):
    def find(*_: object, **__: object) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    with pytest.raises(SourceError, match=r"^there is no bucket for memory://garden/flowers; make it first$"):
        upload.target_of(URL, home)


def test_a_folder_of_this_machine_needs_no_bucket(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert upload.target_of("shards", home) == Folder(tmp_path / "shards")


def test_without_its_library_the_extra_is_named(home):
    """In a process of its own: fsspec remembers what it once found."""
    code = (
        "import sys; sys.modules['s3fs'] = None; from pathlib import Path; from data.shards import upload; "
        f"upload.target_of('s3://garden/x', Path({str(home)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr.splitlines()[-1] == (
        "data.errors.SourceError: s3:// needs s3fs, which is not installed; pip install 'trainserve[s3]'"
    )


# Against a real server of buckets

KILLED = """
import os, signal, sys
from pathlib import Path
from data.shards import upload
from tests.data.test_shards import many, taken

keep, count = upload.Upload.keep, []
def killed(self, name):
    count.append(name)
    if len(count) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    keep(self, name)
upload.Upload.keep = killed
home = Path(sys.argv[2])
many(taken(sys.argv[1], home), upload.target_of("s3://garden/flowers", home))
"""


@pytest.mark.slow
def test_a_writer_that_was_killed_goes_on_in_s3(s3, write, home, tmp_path):  # noqa: F811
    source = write({f"{k}/{n}.png": None for k in "ab" for n in range(30)})
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(home)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(left(home)) == 1
    before = {one["Key"]: one["LastModified"] for one in s3.list_objects_v2(Bucket="garden")["Contents"]}
    assert sorted(before) == [
        f"flowers/{name}" for name in ("000000.tar", "000000.tar.index", "000001.tar", "000001.tar.index", "begun.json")
    ]
    tags = {key: s3.head_object(Bucket="garden", Key=key)["LastModified"] for key in before if "begun" not in key}
    listed = taken(source, home)
    many(listed, upload.target_of("s3://garden/flowers", home))
    assert left(home) == []
    many(listed, tmp_path / "shards")
    for name, content in contents(tmp_path / "shards").items():
        assert s3.get_object(Bucket="garden", Key=f"flowers/{name}")["Body"].read() == content
    assert tags == {key: s3.head_object(Bucket="garden", Key=key)["LastModified"] for key in tags}
    assert taken("shards:s3://garden/flowers", home).fingerprint == listed.fingerprint


def command(place: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    code = "from flows.cli import main; main()"
    environment = {**os.environ, "TRAINSERVE_HOME": str(place)}
    done = [sys.executable, "-c", code, "data", *arguments]
    return subprocess.run(done, capture_output=True, text=True, env=environment, check=False, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.usefixtures("s3")
def test_the_command_writes_to_s3_what_can_be_trained_on(write, tmp_path, png):
    source = write({f"{k}/{n}.png": png(100 * i + n, 32) for i, k in enumerate("ab") for n in range(20)})
    done = command(tmp_path / "one", "shards", str(source), "--to", "s3://garden/flowers")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "40 pictures of 2 classes in 1 shard in s3://garden/flowers; train on them: trainserve run --dataset.source "
        "shards:s3://garden/flowers\n"
    )
    done = command(tmp_path / "two", "inspect", "shards:s3://garden/flowers")
    assert "40 pictures, 2 classes" in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("s3")
def test_no_credentials_and_no_bucket_are_one_sentence(write, tmp_path, monkeypatch):
    source = str(write({f"{k}/{n}.png": None for k in "ab" for n in range(9)}))
    done = command(tmp_path / "home", "shards", source, "--to", "s3://nowhere/flowers")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "trainserve: there is no bucket for s3://nowhere/flowers; make it first"
    assert not (tmp_path / "home/datasets/digests").exists(), "the bucket is asked before any picture is read"
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    done = command(tmp_path / "home", "shards", source, "--to", "s3://garden/flowers")
    assert done.returncode == 2
    assert re.fullmatch(
        r"trainserve: s3://garden/flowers may not be written to \(.*\); set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY in the environment",
        done.stderr.splitlines()[-1],
    )
