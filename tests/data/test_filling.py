"""A build of the cache that is killed goes on where it was, and the end is the same, byte for byte."""

import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import filling, images, journal, whole
from data.journal import Journal
from data.snapshot import Snapshot
from data.spec import ImageSpec

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ImageSpec(height=8, width=8)
KILLS = 6

# Of whatever decodes: every picture is written down, and takes a while.
SITE = """
import hashlib, os, time
import data.preprocess as preprocess
real = preprocess.stored_pixels
log = os.open(os.environ["DECODED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def stored_pixels(file, spec):
    os.write(log, (hashlib.sha256(file).hexdigest() + chr(10)).encode())
    time.sleep(0.003)
    return real(file, spec)

preprocess.stored_pixels = stored_pixels
"""

BUILD = """
import pickle, sys
from pathlib import Path
from data import filling, images
filling.INLINE_SECONDS, filling.GAUGE_SECONDS, filling.JOB_PICTURES = 0.05, 0.05, 3
snapshot, image, home = pickle.loads(Path(sys.argv[1]).read_bytes())
images.build(snapshot, image, home)
"""


def toy(root: Path, num: int, *, broken: tuple[int, ...] = ()) -> Snapshot:
    root.mkdir()
    for number in range(num):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:04}.png")
    for number in broken:
        (root / f"{number:04}.png").write_bytes(f"no picture, number {number}".encode())
    files = sorted(root.iterdir())
    return Snapshot(
        name="toy",
        root=root,
        classes=("a", "b"),
        files=tuple(file.name for file in files),
        labels=np.arange(num, dtype=np.int64) % 2,
        digests=tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files),
        sizes=np.array([file.stat().st_size for file in files], dtype=np.int64),
        parts=(None,) * num,
        mirror=True,
    )


def done(home: Path) -> set[int]:
    """Slots that the journal has, of a part or of nothing."""
    files = list((home / "images").glob(".*.part/done.jsonl"))
    return {slot for file in files for first, end, _ in journal.read(file) for slot in range(first, end)}


@pytest.mark.slow
def test_a_build_that_is_killed_again_and_again_ends_with_equal_bytes_and_decodes_nothing_again(tmp_path):
    snapshot = toy(tmp_path / "toy", 600, broken=(0, 5, 77, 599))
    in_one_go = images.build(snapshot, IMAGE, tmp_path / "in one go")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    home, decoded = tmp_path / "home", tmp_path / "decoded"
    (tmp_path / "task").write_bytes(pickle.dumps((snapshot, IMAGE, home)))
    decoded.touch()
    chance = random.Random(0)
    paths = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    environment = os.environ | {"DECODED": str(decoded), "PYTHONPATH": paths}
    kept, slots = set[int](), {digest: slot for slot, digest in enumerate(snapshot.digests)}
    for _ in range(KILLS):
        known, until = len(decoded.read_bytes().splitlines()), len(kept) + chance.randint(1, 60)
        builder = subprocess.Popen([sys.executable, "-c", BUILD, tmp_path / "task"], cwd=ROOT, env=environment)
        while len(now := done(home)) < until:
            assert builder.poll() is None, "it ended before it was killed"
            time.sleep(0.001)
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        assert kept < now
        again = {slots[digest] for digest in decoded.read_text().splitlines()[known:]} & kept
        assert not again, "decoded though it was done"
        kept = done(home)
    built = images.build(snapshot, IMAGE, home)
    assert np.array_equal(built.rows, in_one_go.rows)
    assert np.array_equal(built.pixels, in_one_go.pixels)
    assert built.unreadable == in_one_go.unreadable
    times = Counter(decoded.read_text().splitlines())
    in_flight = 3 * (1 + len(os.sched_getaffinity(0)))  # pictures in jobs that a kill may cut short
    assert sum(times.values()) - len(times) <= KILLS * in_flight
    (folder,) = (path for path in (home / "images").iterdir() if not path.name.startswith("."))
    assert sorted(path.name for path in folder.iterdir()) == ["pixels.u8", "unreadable.json"]


@pytest.mark.parametrize("broken", [(), (0, 3, 11)])
@pytest.mark.parametrize("where", ["write", "_compact", "_remove_for_good"])
def test_a_build_that_ends_between_the_last_picture_and_the_result_is_gone_on_with(
    tmp_path, monkeypatch, broken, where
):
    snapshot = toy(tmp_path / "toy", 12, broken=broken)
    real = getattr(filling, where)

    def killed(*arguments: object) -> None:
        if where != "write":
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(filling, where, killed)
        if broken or where == "write":
            with pytest.raises(KeyboardInterrupt):
                images.build(snapshot, IMAGE, tmp_path / "home")
    for part in (tmp_path / "home/images").glob(".*.part"):
        (part / ".unreadable.json.x1y2.part").touch()  # as a kill leaves it
    built = images.build(snapshot, IMAGE, tmp_path / "home")
    (folder,) = (path for path in (tmp_path / "home/images").iterdir() if not path.name.startswith("."))
    assert sorted(path.name for path in folder.iterdir()) == ["pixels.u8", "unreadable.json"]
    assert np.array_equal(built.pixels, images.build(snapshot, IMAGE, tmp_path / "in one go").pixels)
    assert len(built.unreadable) == len(broken)


BUILDER = """
import sys, time
from pathlib import Path
from data import whole
from data.decode import Worker
from data.spec import ImageSpec

target = Path(sys.argv[1])
with whole.locked(target) as lock:
    worker = Worker(ImageSpec(height=8, width=8), target, lock)
    worker.ask([(0, *sys.argv[2:])])
    worker.answer()
    worker.ask([(1, *sys.argv[2:])])
    print(flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_nobody_else_begins_while_a_process_of_a_killed_builder_may_still_write(tmp_path):
    snapshot, target = toy(tmp_path / "toy", 1), tmp_path / "pixels.u8"
    target.touch()
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDER, target, snapshot.path(0), snapshot.digests[0]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert builder.stdout
    builder.stdout.readline()
    (worker,) = map(int, Path(f"/proc/{builder.pid}/task/{builder.pid}/children").read_text().split())
    os.kill(worker, signal.SIGSTOP)
    builder.kill()
    builder.wait()
    with pytest.raises(BlockingIOError), whole.locked(target, wait=False):
        pass
    os.kill(worker, signal.SIGCONT)
    with whole.locked(target):  # it does what it was asked, and ends, since nobody is left to ask it for more
        assert np.fromfile(target, np.uint8).size == 2 * 8 * 8 * 3


def lines(file: Path) -> list[object]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").write_bytes(b"x")
    return tmp_path / "work"


def test_a_journal_says_what_is_done(tmp_path, work):
    with Journal(tmp_path / "done", work) as kept:
        assert kept.done == []
        kept.add(0, 64, [])
        kept.add(64, 70, [(65, "a text")])
        assert journal.read(tmp_path / "done") == [(0, 64, []), (64, 70, [(65, "a text")])]
    assert lines(tmp_path / "done")[-1] == {"synced": 2}


@pytest.mark.parametrize("torn", [b'["torn", 64, ', b"\0\0\0\0\n", b"7\n", b'{"sync": 1}\n'])
def test_a_torn_line_does_not_count_and_is_written_over(tmp_path, work, torn):
    with Journal(tmp_path / "done", work) as kept:
        kept.add(0, 64, [])
    (tmp_path / "done").write_bytes((tmp_path / "done").read_bytes() + torn)
    with Journal(tmp_path / "done", work) as kept:
        assert kept.done == [(0, 64, [])]
        kept.add(64, 70, [])
    assert [one[:2] for one in journal.read(tmp_path / "done")] == [(0, 64), (64, 70)]


def test_after_a_power_loss_only_what_was_on_the_disk_counts(tmp_path, work, monkeypatch):
    file = tmp_path / "done"
    with Journal(file, work) as kept:
        kept.add(0, 1, [])
    with Journal(file, work) as kept:
        monkeypatch.setattr(journal, "SYNC_EVERY_S", 0.0)
        kept.add(1, 2, [])
        assert kept._syncing is not None
        kept._syncing.result()
        monkeypatch.setattr(journal, "SYNC_EVERY_S", 60.0)
        kept.add(2, 3, [])
        assert [one[:2] for one in journal.read(file)] == [(0, 1), (1, 2), (2, 3)]  # a kill loses nothing
        monkeypatch.setattr(journal, "BOOT", "another")  # the machine was started again
        assert [one[:2] for one in journal.read(file)] == [(0, 1), (1, 2)]
        as_it_was = file.read_bytes()
    file.write_bytes(as_it_was)
    with Journal(file, work) as kept:
        kept.add(5, 6, [])
        assert [one[:2] for one in journal.read(file)] == [(0, 1), (1, 2), (5, 6)]  # what did not count never will


def test_bytes_that_the_disk_refused_in_the_background_are_not_taken_for_written(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.write_bytes(b"")
    monkeypatch.setattr(journal, "SYNC_EVERY_S", -1.0)
    kept = Journal(tmp_path / "journal", work)
    real, told = os.fsync, []

    def once(file: int) -> None:
        """As Linux: an error is told to the first who asks, and to nobody after him."""
        if not told:
            told.append(file)
            raise OSError(5, "Input/output error")
        real(file)

    monkeypatch.setattr(os, "fsync", once)
    with pytest.raises(OSError, match="Input/output"), kept:
        kept.add(0, 1, [])
    assert told
