"""Decoded pictures: right rows, one cache per content and geometry, whole or absent, however many build it."""

import dataclasses
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import filling, images
from data.decode import Worker, decode_in_processes
from data.errors import DataRefused, InputError, SourceError
from data.preprocess import stored_pixels
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ImageSpec(height=8, width=8, margin=1)
NOTHING_SAID = DatasetSpec(source="somewhere")


def picture(path: Path, *, size: tuple[int, int] = (12, 10), mode: str = "RGB", seed: int = 0) -> Path:
    """`size` is (width, height), as Pillow has it."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def listing(root: Path, files: Sequence[Path]) -> Snapshot:
    """A snapshot of these files in this order, two classes in turn."""
    return Snapshot(
        name="toy",
        root=root,
        classes=("a", "b"),
        files=tuple(file.relative_to(root).as_posix() for file in files),
        labels=np.arange(len(files), dtype=np.int64) % 2,
        digests=tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files),
        sizes=np.array([file.stat().st_size for file in files], dtype=np.int64),
        parts=(None,) * len(files),
        mirror=True,
    )


def toy(root: Path, num: int = 12, **options: object) -> Snapshot:
    root.mkdir(exist_ok=True)
    return listing(root, [picture(root / f"{i:04}.png", seed=i, **options) for i in range(num)])


def listed_again(snapshot: Snapshot) -> Snapshot:
    """Its files, as they are now."""
    return listing(snapshot.root, [snapshot.root / file for file in snapshot.files])


def one_of(snapshot: Snapshot, row: int) -> tuple[int, str, str]:
    """Of a job."""
    return row, str(snapshot.path(row)), snapshot.digests[row]


@pytest.fixture
def in_processes(monkeypatch) -> None:
    """No time for this process: the workers do it all but the first job."""
    monkeypatch.setattr(filling, "INLINE_SECONDS", 0.0)
    monkeypatch.setattr(filling, "GAUGE_SECONDS", 0.0)
    monkeypatch.setattr(filling, "JOB_PICTURES", 5)


def leftovers(home: Path) -> list[str]:
    return [path.name for path in (home / "images").iterdir() if path.name.endswith(".part")]


def whole_results(home: Path) -> list[Path]:
    return [path for path in (home / "images").iterdir() if not path.name.startswith(".")]


def test_each_row_is_the_geometry_of_its_file(tmp_path):
    built = images.build(toy(tmp_path / "toy"), IMAGE, tmp_path)
    assert built.pixels.shape == (12, 10, 10, 3)
    assert built.rows.tolist() == list(range(12))
    assert built.unreadable == ()
    for row in range(12):
        assert np.array_equal(built.pixels[row], stored_pixels(built.path(row), IMAGE))
    assert built.labels.tolist() == [0, 1] * 6
    assert isinstance(built.pixels, np.memmap)
    assert not built.pixels.flags.writeable
    assert leftovers(tmp_path) == []


def test_unreadable_files_are_left_out_and_listed(tmp_path):
    snapshot = toy(tmp_path / "toy", 600)  # more than are moved at a time when the gaps are closed
    for row, content in ((0, b""), (3, b"a text"), (4, snapshot.path(4).read_bytes()[:60]), (599, b"\xff\xd8\xff")):
        snapshot.path(row).write_bytes(content)
    snapshot = listed_again(snapshot)
    built = images.build(snapshot, IMAGE, tmp_path)
    kept = np.delete(np.arange(600), [0, 3, 4, 599])
    assert np.array_equal(built.rows, kept)
    assert np.array_equal(built.labels, kept % 2)
    for row in range(len(kept)):
        assert np.array_equal(built.pixels[row], stored_pixels(built.path(row), IMAGE))
    assert [bad.file for bad in built.unreadable] == ["0000.png", "0003.png", "0004.png", "0599.png"]
    assert "empty" in built.unreadable[0].reason
    again = images.build(snapshot, IMAGE, tmp_path)
    assert again.unreadable == built.unreadable
    assert np.array_equal(again.rows, built.rows)


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"another"), Path.unlink])
@pytest.mark.parametrize("processes", [False, True])
def test_what_changes_while_it_is_read_is_never_kept_as_what_it_was(tmp_path, request, change, processes):
    """Such as by another run, to which the same bucket has given another picture."""
    if processes:
        request.getfixturevalue("in_processes")
    snapshot = toy(tmp_path / "toy", 12)
    before = snapshot.path(11).read_bytes()
    change(snapshot.path(11))
    with pytest.raises(SourceError, match=r"0011.png changed while the pictures were read; run it again"):
        images.build(snapshot, IMAGE, tmp_path)
    assert whole_results(tmp_path) == []
    snapshot.path(11).write_bytes(before)
    assert len(images.build(snapshot, IMAGE, tmp_path).rows) == 12


@pytest.mark.parametrize("processes", [False, True])
def test_what_cannot_be_read_has_not_changed(tmp_path, request, processes):
    if processes:
        request.getfixturevalue("in_processes")
    snapshot = toy(tmp_path / "toy", 12)
    snapshot.path(11).unlink()
    snapshot.path(11).symlink_to(snapshot.path(11).name)  # which root cannot read either
    with pytest.raises(
        SourceError, match=r"0011.png cannot be read: Too many levels of symbolic links; make it readab"
    ):
        images.build(snapshot, IMAGE, tmp_path)


def test_nothing_readable_is_no_rows_and_no_crash(tmp_path):
    snapshot = toy(tmp_path / "toy", 3)
    for row in range(3):
        snapshot.path(row).write_bytes(b"")
    snapshot = listed_again(snapshot)
    for _ in range(2):
        built = images.build(snapshot, IMAGE, tmp_path)
        assert built.pixels.shape == (0, 10, 10, 3)
        assert len(built.unreadable) == 3


@pytest.mark.slow
def test_processes_started_from_a_thread_give_the_same_as_one(tmp_path, in_processes):  # noqa: ARG001
    snapshot, calls = toy(tmp_path / "toy", 40), []
    snapshot.path(17).write_bytes(b"a text")
    snapshot = listed_again(snapshot)
    with ThreadPoolExecutor(1) as pool:
        built = pool.submit(images.build, snapshot, IMAGE, tmp_path, progress=lambda *call: calls.append(call)).result()
    assert np.array_equal(built.rows, np.delete(np.arange(40), 17))
    for row in range(39):
        assert np.array_equal(built.pixels[row], stored_pixels(built.path(row), IMAGE))
    assert [done for _, done, _ in calls] == sorted({done for _, done, _ in calls})
    assert calls[-1][1:] == (40, 40)


@pytest.mark.slow
def test_a_file_that_kills_its_decoder_is_refused_and_the_rest_goes_on(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, data.preprocess as p\n"
        "real = p.stored_pixels\n"
        "p.stored_pixels = lambda file, spec: os.abort() if file == b'kills' else real(file, spec)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    snapshot = toy(tmp_path / "toy", 8)
    snapshot.path(3).write_bytes(b"kills")
    snapshot = listed_again(snapshot)
    target = tmp_path / "pixels.u8"
    target.touch()
    jobs = [[one_of(snapshot, row) for row in range(8)]]
    results = list(decode_in_processes(jobs, IMAGE, target, processes=1))
    assert sum(len(job) for job, _ in results) == 8
    refused = [refusal for _, some in results for refusal in some]
    assert [slot for slot, _ in refused] == [3]
    pixels = np.fromfile(target, np.uint8).reshape(8, 10, 10, 3)
    for row in (0, 2, 4, 7):
        assert np.array_equal(pixels[row], stored_pixels(snapshot.path(row), IMAGE))


def test_a_second_build_reads_no_picture(tmp_path):
    snapshot = toy(tmp_path / "toy")
    first = images.build(snapshot, IMAGE, tmp_path)
    for row in range(12):
        snapshot.path(row).unlink()
    assert np.array_equal(images.build(snapshot, IMAGE, tmp_path).pixels, first.pixels)


def test_renamed_pictures_hit_the_cache_and_changed_ones_do_not(tmp_path):
    snapshot = toy(tmp_path / "toy")
    renamed = [snapshot.path(row).rename(tmp_path / "toy" / f"new {row:02}.jpeg") for row in range(12)]
    assert images.cache_key(listing(tmp_path / "toy", renamed), IMAGE) == images.cache_key(snapshot, IMAGE)
    picture(tmp_path / "new.png", seed=99).replace(renamed[5])
    assert images.cache_key(listing(tmp_path / "toy", renamed), IMAGE) != images.cache_key(snapshot, IMAGE)


@pytest.mark.parametrize("change", [{"height": 9}, {"channels": 1}, {"margin": 2}, {"fit": "pad"}])
def test_another_geometry_is_another_cache(tmp_path, change):
    snapshot = toy(tmp_path / "toy", 1)
    other = ImageSpec.model_validate(IMAGE.model_dump() | change)
    assert images.cache_key(snapshot, other) != images.cache_key(snapshot, IMAGE)


def test_a_damaged_cache_is_built_again(tmp_path):
    snapshot = toy(tmp_path / "toy")
    first = images.build(snapshot, IMAGE, tmp_path)
    expected = first.pixels.copy()
    file = Path(str(first.pixels.filename))
    del first
    with file.open("r+b") as pixels:
        pixels.truncate(100)
    assert np.array_equal(images.build(snapshot, IMAGE, tmp_path).pixels, expected)
    file.unlink()
    assert np.array_equal(images.build(snapshot, IMAGE, tmp_path).pixels, expected)


def test_builders_of_one_key_at_once_agree(tmp_path):
    snapshot = toy(tmp_path / "toy", 60)
    with ThreadPoolExecutor(6) as pool:
        built = list(pool.map(lambda _: images.build(snapshot, IMAGE, tmp_path), range(6)))
    for one in built:
        assert np.array_equal(one.pixels, built[0].pixels)
    assert np.array_equal(built[0].pixels[59], stored_pixels(snapshot.path(59), IMAGE))
    assert leftovers(tmp_path) == []


def test_a_failure_leaves_no_half_result_and_the_next_try_goes_on(tmp_path, monkeypatch):
    snapshot = toy(tmp_path / "toy")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.build(snapshot, IMAGE, tmp_path, progress=stop)
    assert whole_results(tmp_path) == []
    monkeypatch.setattr(filling, "decode", lambda *_: pytest.fail("it was decoded before"))
    assert images.build(snapshot, IMAGE, tmp_path).pixels.shape[0] == 12
    assert leftovers(tmp_path) == []


def test_a_build_anew_takes_nothing_over(tmp_path):
    snapshot = toy(tmp_path / "toy")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.build(snapshot, IMAGE, tmp_path, progress=stop)
    (pixels,) = (tmp_path / "images").glob(".*.part/pixels.u8")
    pixels.write_bytes(bytes(pixels.stat().st_size))
    built = images.build(snapshot, IMAGE, tmp_path, anew=True)
    assert np.array_equal(built.pixels[3], stored_pixels(built.path(3), IMAGE))


BUILD = """
import pickle, sys
from pathlib import Path
from data import filling, images
filling.INLINE_SECONDS, filling.GAUGE_SECONDS, filling.JOB_PICTURES = 0.0, 0.0, 1

def told(what, done, total):
    print(done, flush=True)
    if done > 1:  # the workers are at it; whoever started this build may take his time to stop it
        sys.stdin.read()

snapshot, image, home = pickle.loads(Path(sys.argv[1]).read_bytes())
images.build(snapshot, image, home, progress=told)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_build_that_is_stopped_leaves_no_process_and_no_half_result(tmp_path, how):
    snapshot = toy(tmp_path / "toy", 50)
    (tmp_path / "task").write_bytes(pickle.dumps((snapshot, IMAGE, tmp_path)))
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILD, tmp_path / "task"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert builder.stdout
    assert any(int(line) > 1 for line in builder.stdout), "it ended before the workers were at it"
    workers = children(builder.pid)
    assert workers
    builder.send_signal(how)
    assert builder.wait() != 0
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in workers)
    assert whole_results(tmp_path) == []
    images.build(snapshot, IMAGE, tmp_path)
    assert leftovers(tmp_path) == []


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_a_worker_whose_pixels_cannot_be_written_says_so(tmp_path):
    snapshot = toy(tmp_path / "toy", 1)
    worker = Worker(IMAGE, Path("/dev/full"))
    worker.ask([one_of(snapshot, 0)])
    with pytest.raises(OSError, match=r"No space left|Illegal seek"):
        worker.answer()
    worker.end()


@pytest.mark.slow
def test_a_worker_that_died_between_two_jobs_is_replaced(tmp_path):
    snapshot = toy(tmp_path / "toy", 1)
    (tmp_path / "pixels.u8").touch()
    before = set(children(os.getpid()))
    worker = Worker(IMAGE, tmp_path / "pixels.u8")
    job = [one_of(snapshot, 0)]
    worker.ask(job)
    assert worker.answer() == []
    (pid,) = set(children(os.getpid())) - before
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.01)
    worker.ask(job)
    assert worker.answer() is None
    assert "status -9" in worker.restart()
    worker.ask(job)
    assert worker.answer() == []
    worker.end()


@pytest.mark.slow
def test_a_set_larger_than_the_disk_is_refused_before_anything_is_written(tmp_path):
    one = toy(tmp_path / "toy", 1)
    many = dataclasses.replace(one, files=one.files * 1_000_000, digests=one.digests * 1_000_000)
    with pytest.raises(InputError, match=r"need 7077.9 GB .* make room, set TRAINSERVE_HOME"):
        images.build(many, ImageSpec(height=1024, width=1024, margin=256), tmp_path)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("size", "expected"),
    [((8, 8), 8), ((5, 5), 8), ((28, 28), 28), ((32, 32), 32), ((61, 80), 60), ((64, 200), 64), ((500, 375), 96)],
)
def test_the_size_follows_the_pictures(tmp_path, size, expected):
    chosen = images.choose_spec(toy(tmp_path / "toy", 3, size=size), NOTHING_SAID)
    assert chosen == ImageSpec(height=expected, width=expected, channels=3, margin=0)


@pytest.mark.parametrize(("max_size", "expected"), [(128, 128), (300, 240), (None, 96)])
def test_large_photographs_are_seen_as_large_as_allowed(tmp_path, max_size, expected):
    photographs = toy(tmp_path / "toy", 3, size=(320, 240))
    assert images.choose_spec(photographs, DatasetSpec(max_size=max_size)).height == expected


def test_grey_pictures_need_one_channel_and_one_coloured_among_them_three(tmp_path):
    grey = toy(tmp_path / "toy", 6, mode="L")
    assert images.choose_spec(grey, NOTHING_SAID).channels == 1
    picture(grey.path(3))
    assert images.choose_spec(grey, NOTHING_SAID).channels == 3


def test_what_the_user_says_is_kept(tmp_path):
    snapshot = toy(tmp_path / "toy", 2, size=(100, 100))
    said = DatasetSpec(source="x", size=48, channels=1, margin=3, fit="pad")
    assert images.choose_spec(snapshot, said) == ImageSpec(height=48, width=48, channels=1, margin=3, fit="pad")


def test_unreadable_files_do_not_decide_the_geometry(tmp_path):
    snapshot = toy(tmp_path / "toy", 4)
    for row in range(3):
        snapshot.path(row).write_bytes(b"a text")
    assert images.choose_spec(snapshot, NOTHING_SAID).height == 10
    snapshot.path(3).write_bytes(b"")
    with pytest.raises(DataRefused, match=r"none of the pictures of toy can be read \(0003.png: .*\); check"):
        images.choose_spec(snapshot, NOTHING_SAID)
