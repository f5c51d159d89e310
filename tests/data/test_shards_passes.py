"""Whatever looks at all pictures of shards reads them as they lie: each shard is opened once, and kept is what cost a
pass."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data import images
from data.gate import looks, near, quality
from data.prepare import prepare
from data.shards import bucket, opening, order, stream
from data.shards.read import Shards
from data.shards.stream import Streamed
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec
from tests.data.conftest import png, two_classes
from tests.data.test_shards import many, taken

NUM, SIDE = 90, 40
Opened = Callable[[], list[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`files`, a folder of pictures of two classes, and `shards`, the same in a dozen and more."""
    folder = tmp_path_factory.mktemp("passes")
    two_classes(folder / "files", NUM, side=SIDE)
    many(taken(folder / "files", folder / "home"), folder / "shards")
    return folder


@pytest.fixture
def there(place, tmp_path) -> Snapshot:
    """In the order of the classes, which is not that of the shards."""
    return taken(place / "shards", tmp_path)


@pytest.fixture
def opened(monkeypatch) -> Opened:
    """The shards that were opened since it was asked last."""
    found: list[str] = []
    first = Shards._file
    monkeypatch.setattr(
        Shards, "_file", lambda self, path: (None if path in self._open else found.append(path), first(self, path))[1]
    )
    return lambda: [found.pop(0) for _ in range(len(found))]


def once_each(paths: list[str]) -> bool:
    return len(paths) == len(set(paths)) > order.WINDOW


def test_headers_are_read_shard_by_shard(there, opened):
    assert images.choose_spec(there, DatasetSpec(source="x")).height == SIDE
    assert once_each(opened())


def test_sizes_of_files_are_read_shard_by_shard_and_are_those_of_their_rows(tmp_path, opened):
    for number, side in enumerate(range(20, 20 + NUM)):
        file = tmp_path / f"sizes/{'ab'[number % 2]}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number, side=side))
    many(taken(tmp_path / "sizes", tmp_path), tmp_path / "shards")
    found = {}
    for name in ("sizes", "shards"):
        listed = taken(tmp_path / name, tmp_path)
        rows = np.arange(1, NUM)
        subject = SimpleNamespace(snapshot=listed, pictures=SimpleNamespace(rows=rows), progress=lambda *_: None)
        found[name] = looks._sizes(subject)
    assert once_each(opened())
    assert np.array_equal(found["sizes"], found["shards"])


def test_pictures_that_may_be_near_are_read_shard_by_shard_and_as_near_as_in_memory(there, opened):
    rows = np.arange(NUM)
    streamed = Streamed(there, rows, ImageSpec(height=SIDE, width=SIDE, channels=1))
    random = np.random.default_rng(0)
    pairs, mirrored = np.sort(random.choice(NUM, (700, 2)), axis=1), random.random(700) < 0.5
    before = near.likeness(streamed[rows], pairs, mirrored)
    opened()
    assert np.array_equal(near.likeness(streamed, pairs, mirrored), before)
    assert once_each(opened())


def test_contents_come_in_the_order_that_was_asked_for(there):
    rows = np.array([17, 3, 3, 80])
    digests = [hashlib.sha256(one).hexdigest() for one in there.contents_of(rows)]
    assert digests == [there.digests[row] for row in rows]
    assert list(there.contents_of(rows[:0])) == []


def test_a_bucket_is_gone_through_with_room_for_few_shards(place, tmp_path, monkeypatch):
    """Each is fetched once, though not all of them fit."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in (place / "shards").iterdir():
        memory.pipe_file(f"/passes/{path.name}", path.read_bytes())
    monkeypatch.setattr(bucket, "AT_LEAST", 2)
    monkeypatch.setattr(bucket.Bucket, "soon", lambda *_: None)
    monkeypatch.setenv("TRAINSERVE_SHARDS_GB", "0.00001")
    fetched: list[str] = []
    fetch = bucket.Bucket._fetch
    monkeypatch.setattr(bucket.Bucket, "_fetch", lambda self, name, *a: fetched.append(name) or fetch(self, name, *a))
    try:
        found = taken("shards:memory://passes", tmp_path)
        rows = np.arange(NUM)
        fetched.clear()
        assert len(list(found.contents_of(rows[found.order(rows)]))) == NUM
    finally:
        memory.rm("/passes", recursive=True)
    assert once_each(fetched)


def test_rows_are_chosen_as_those_of_an_array(there):
    streamed = Streamed(there, np.arange(NUM), ImageSpec(height=6, width=6, channels=1))
    whole = streamed[:]
    for chosen in (slice(80, 5, -7), [3, -1, 3], np.arange(NUM) % 9 == 0, np.array([], np.int64), [], 7, -2):
        assert np.array_equal(streamed[chosen], whole[chosen])
    for wrong in (NUM, [0, NUM], [-NUM - 1]):
        with pytest.raises(IndexError):
            streamed[wrong]


def test_what_was_measured_of_shards_is_kept_and_apart_from_what_was_of_files(place, tmp_path, monkeypatch):
    measured: list[str] = []
    sizes = quality.sizes
    monkeypatch.setattr(quality, "sizes", lambda files: measured.append(source) or sizes(files))
    for source in ("shards", "shards", "files", "shards", "files"):
        prepare(DatasetSpec(source=str(place / source), size=8, name="toy"), tmp_path)
    assert measured == ["shards", "files"]
    first, second = sorted(path.parent.name for path in tmp_path.rglob("sizes.npz"))
    assert second == f"{first}-streamed"


def test_pictures_of_a_pass_are_asked_of_their_place_in_turns(there, monkeypatch, tmp_path):
    """Also those that are kept, and within a shard as they lie."""
    monkeypatch.setattr(opening, "CHUNK", 4)
    monkeypatch.setattr(stream, "FEW", 10**6)
    read: list[tuple[str, int]] = []
    first = Shards.content
    monkeypatch.setattr(Shards, "content", lambda self, one: read.append((one.shard, one.offset)) or first(self, one))
    opening.build(there, ImageSpec(height=6, width=6, channels=1), tmp_path)
    assert read == sorted(read)
    assert len(read) == NUM
