"""Training from shards: the pictures of the cache, in an order of their own, whoever decodes them."""

import gc
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data import workers
from data.augment import resolve
from data.errors import SourceError
from data.loader import Pictures, TrainBatches, eval_batches
from data.prepare import Dataset, prepare
from data.shards import decoders, opening, order, stream
from data.shards.place import Local
from data.shards.stream import Streamed
from data.spec import AugmentConfig, DatasetSpec, ImageSpec
from tests.data.conftest import two_classes
from tests.data.test_shards import many, taken

NUM = 90  # pictures of two classes


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`files`, a folder of pictures, and `shards`, the same in a dozen shards."""
    folder = tmp_path_factory.mktemp("shards")
    two_classes(folder / "files", NUM, side=8)
    shard(folder / "files", folder / "shards", folder / "home")
    return folder


def shard(source: Path, to: Path, home: Path) -> None:
    """In shards of a few pictures."""
    many(taken(source, home), to)


def prepared(source: Path, home: Path) -> Dataset:
    return prepare(DatasetSpec(source=str(source), size=8, name="toy"), home)


@pytest.fixture(scope="module")
def streamed(place) -> Dataset:
    return prepared(place / "shards", place / "home")


def batches(dataset: Dataset, *, seed: int = 0, config: AugmentConfig | None = None) -> TrainBatches:
    images = dataset.images
    return TrainBatches(
        Pictures(images.pixels),
        images.labels,
        dataset.split.train,
        batch_size=16,
        seed=seed,
        image=images.spec,
        config=resolve(config or AugmentConfig(crop=0, flip=False), images.spec, mirror=True, any_size=True),
        num_classes=2,
    )


def same(some, others) -> bool:
    return all(
        torch.equal(a, b) for one, other in zip(some, others, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_preparing_shards_finds_what_preparing_their_source_finds(place, streamed):
    cached = prepared(place / "files", place / "home")
    assert streamed.images.snapshot.fingerprint == cached.images.snapshot.fingerprint
    for part in ("train", "val", "test"):
        assert np.array_equal(getattr(streamed.split, part), getattr(cached.split, part))
    assert [one.rule for one in streamed.report.findings] == [one.rule for one in cached.report.findings]
    rows = np.array([5, 3, 80, 3])
    assert np.array_equal(streamed.images.pixels[rows], cached.images.pixels[rows])
    assert np.array_equal(streamed.images.pixels[7], cached.images.pixels[7])
    assert np.array_equal(streamed.images.pixels[10:20], cached.images.pixels[10:20])


def test_only_validation_and_test_pictures_are_kept_decoded(place, streamed):
    kept = len(streamed.split.val) + len(streamed.split.test)
    home = place / "elsewhere"
    prepared(place / "shards", home)
    files = [path for path in home.rglob("*") if path.suffix == ".u8"]
    assert [path.stat().st_size for path in files] == [kept * 8 * 8]


def test_pictures_are_kept_in_the_order_of_the_shards_each_of_which_is_read_once(place, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "CHUNK", 4)
    asked: list[str] = []
    file = Local.file
    monkeypatch.setattr(Local, "file", lambda self, name: asked.append(name) or file(self, name))
    listed, image = taken(place / "shards", tmp_path), ImageSpec(height=8, width=8, channels=1)
    images = opening.build(listed, image, tmp_path)
    rows, asked[:] = np.arange(0, NUM, 2), []
    kept = opening.keep(images, rows, tmp_path)
    turns = [name for name, before in zip(asked, [None, *asked], strict=False) if name != before]
    assert len(turns) == len(set(turns)) > order.WINDOW
    assert np.array_equal(kept.pixels[rows], images.pixels[rows])


def test_an_epoch_shows_every_training_picture_once(streamed):
    train, labels = batches(streamed), streamed.images.labels
    for epoch in range(2):
        steps = train.rows(epoch)
        assert sorted(np.concatenate(steps)) == streamed.split.train.tolist()
        for rows, batch in zip(steps, train.epoch(epoch), strict=True):
            assert np.array_equal(batch.pixels.numpy(), streamed.images.pixels[rows])
            assert np.array_equal(batch.targets.numpy(), labels[rows])
    assert not np.array_equal(np.concatenate(train.rows(0)), np.concatenate(train.rows(1)))
    assert not np.array_equal(np.concatenate(train.rows(0)), np.concatenate(batches(streamed, seed=1).rows(0)))


def test_shards_come_a_window_at_a_time(streamed):
    pixels = Pictures(streamed.images.pixels).streamed
    came = pixels.shards[np.concatenate(batches(streamed).rows(0))]
    assert len(set(came.tolist())) > order.WINDOW
    begun = [int(np.flatnonzero(came == one)[0]) for one in set(came.tolist())]
    assert sorted(begun)[order.WINDOW] > len(came) / 3, "the ninth shard waits until eight are done"


def test_going_on_at_any_step_gives_the_rest_to_the_bit(streamed):
    mixed = AugmentConfig(mixup=0.2, erase=0.5)
    whole = list(batches(streamed, config=mixed).epoch(3))
    for step in range(len(whole) + 1):
        assert same(whole[step:], list(batches(streamed, config=mixed).epoch(3, start_step=step)))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_processes_changes_nothing(streamed, workers):
    pixels = streamed.images.pixels
    rows = batches(streamed).rows(0)
    expected = list(pixels.batches(rows, processes=0))
    found = list(pixels.batches(rows, processes=workers))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.slow
def test_an_epoch_that_is_left_early_leaves_no_thread_and_no_process_at_work(streamed, monkeypatch):
    monkeypatch.setattr(stream, "FEW", 0)
    begun: list[decoders._Process] = []
    start = decoders._Process._start
    monkeypatch.setattr(decoders._Process, "_start", lambda self: (begun.append(self), start(self))[1])
    for _ in batches(streamed).epoch(0):
        break
    assert begun
    assert all(one.process._process.poll() is not None or one.job is None for one in begun)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.slow
def test_the_processes_of_an_epoch_go_on_with_the_next(streamed, monkeypatch):
    monkeypatch.setattr(stream, "FEW", 0)
    begun: list[decoders.Crew] = []
    monkeypatch.setattr(decoders, "Crew", lambda *a, made=decoders.Crew, **k: begun.append(made(*a, **k)) or begun[-1])
    kept = streamed.images.pixels
    fresh = Streamed(streamed.images.snapshot, streamed.images.rows, streamed.images.spec)
    parts = batches(streamed).rows(0)
    for _ in range(3):
        found = list(Pictures(fresh).batches(parts))
        assert all(np.array_equal(a.numpy(), kept[b]) for a, b in zip(found, parts, strict=True))
    (crew,) = begun
    assert not [one for one in crew._crew if one.process._process.poll() is not None]
    del fresh
    gc.collect()
    assert all(one.process._process.poll() is not None for one in crew._crew)


def test_evaluation_reads_what_is_kept_and_starts_no_process(streamed, monkeypatch):
    monkeypatch.setattr(decoders, "here", None)
    monkeypatch.setattr(decoders, "Crew", None)
    images, rows = streamed.images, streamed.split.val
    found = list(eval_batches(Pictures(images.pixels), images.labels, rows, batch_size=4, image=images.spec))
    assert sum(len(batch.pixels) for batch in found) == len(rows)


def test_unreadable_pictures_are_found_before_anything_is_trained(place, tmp_path):
    source = tmp_path / "files"
    for file in sorted((place / "files").rglob("*.png"))[:60]:
        to = source / file.parent.name / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes())
    (source / "a/broken.png").write_bytes(b"\x89PNG no picture")
    shard(source, tmp_path / "shards", tmp_path / "home")
    dataset = prepared(tmp_path / "shards", tmp_path / "home")
    assert len(dataset.images.rows) == 60
    assert [one.rule for one in dataset.report.findings if "broken" in one.message or ".png" in one.message]
    assert dataset.images.unreadable[0].file.endswith(".png")


def test_a_picture_that_became_another_beneath_the_index_is_told(place, tmp_path):
    """Also one that can be decoded, after all pictures were once."""
    shard(place / "files", tmp_path / "shards", tmp_path / "home")
    dataset = prepared(tmp_path / "shards", tmp_path / "home")
    index = dataset.images.snapshot.shards
    sizes = index.entries.sizes.tolist()
    one, other = next((a, sizes.index(size)) for a, size in enumerate(sizes) if sizes.index(size) < a)
    (there,), (new,) = index.pieces(np.array([one])), index.contents(np.array([other]))
    with Path(there.shard).open("r+b") as file:
        file.seek(there.offset)
        file.write(new)
    with pytest.raises(SourceError, match=r"^shard /.*\.tar has other bytes at [\d,]+ than its index says"):
        dataset.images.pixels[int(np.flatnonzero(dataset.images.pixels._numbers == one)[0])]


RANKS = [(2, AugmentConfig(zoom=0.3, rotate=10, color=0.2, erase=0.5)), (3, AugmentConfig(policy="trivial", crop=1))]


@pytest.mark.parametrize(("ranks", "config"), RANKS, ids=["two", "three"])
def test_of_several_processes_each_decodes_what_it_looks_at_and_sees_that_to_the_bit(
    streamed, monkeypatch, ranks, config
):
    images = streamed.images
    fresh = Streamed(images.snapshot, images.rows, images.spec)
    whole = list(batches(streamed, config=config).epoch(0))
    decoded: list[int] = []
    pieces = fresh._pieces
    monkeypatch.setattr(fresh, "_pieces", lambda rows: decoded.extend(rows.tolist()) or pieces(rows))
    dataset = replace(streamed, images=replace(images, pixels=fresh))
    for rank in range(ranks):

        def own(num: int, rank: int = rank) -> np.ndarray:
            return np.arange(num)[order.share(num, rank, ranks)]

        seen = list(batches(dataset, config=config).shared(own).epoch(0))
        for batch, expected in zip(seen, whole, strict=True):
            places = own(len(expected.pixels))
            assert torch.equal(batch.pixels[places], expected.pixels[places])
            assert torch.equal(batch.targets, expected.targets)
    assert sorted(decoded) == streamed.split.train.tolist(), "between them every picture once"


def test_where_pictures_are_mixed_every_process_has_all_of_them(streamed):
    config = AugmentConfig(mixup=0.2, crop=0)
    found = batches(streamed, config=config).shared(lambda num: np.arange(num)[:1]).epoch(0)
    assert same(list(found), list(batches(streamed, config=config).epoch(0)))


@pytest.mark.parametrize(("together", "own"), [("", 8), ("1", 8), ("3", 2), ("16", 1), ("0", 8), ("?", 8)])
def test_processes_that_train_together_on_a_machine_share_its_cores(monkeypatch, together, own):
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", together)
    assert decoders.cores() == own


def test_a_process_may_look_at_no_picture_of_a_batch(streamed):
    fresh = Streamed(streamed.images.snapshot, streamed.images.rows, streamed.images.spec)
    parts = [np.arange(4), np.arange(4, 6)]
    first, second = (one.numpy() for one in Pictures(fresh).batches(parts, own=lambda num: np.arange(num - 2)))
    assert np.array_equal(first[:2], fresh[:2])
    assert not first[2:].any()
    assert second.shape == (2, 8, 8, 1)
    assert not second.any()
    assert [one.any() for one in Pictures(fresh).batches(parts, own=lambda _: np.arange(0))] == [False, False]


@pytest.mark.parametrize("few", [pytest.param(0, marks=pytest.mark.slow), 1024], ids=["in processes", "in this one"])
@pytest.mark.parametrize(
    ("how", "said"),
    [("gone", r"cannot be read \(No such file"), ("cut", "is cut off; "), ("other", "has other bytes at 512 than its")],
)
def test_a_shard_that_cannot_be_read_ends_the_run_and_none_of_its_pictures_is_unreadable_for_ever(
    place, tmp_path, monkeypatch, how, said, few
):
    monkeypatch.setattr(stream, "FEW", few)
    home, shards = tmp_path / "home", tmp_path / "shards"
    shard(place / "files", shards, home)
    listed, image = taken(shards, home), ImageSpec(height=8, width=8, channels=1)
    file = shards / "000001.tar"
    raw = file.read_bytes()
    match how:
        case "gone":
            file.unlink()
        case "cut":
            file.write_bytes(raw[: len(raw) // 2])
        case "other":
            file.write_bytes(raw[:512] + bytes(len(raw) - 512))
    with pytest.raises(SourceError, match=rf"^shard /.*/000001\.tar {said}"):
        opening.build(listed, image, home)
    file.write_bytes(raw)
    assert not opening.build(listed, image, home).unreadable


def test_pictures_that_lie_in_files_and_in_shards_are_decoded_for_both(place, tmp_path):
    prepared(place / "shards", tmp_path)
    kept = [path for path in tmp_path.rglob("*") if path.name.startswith(("streamed", "kept"))]
    assert len(prepared(place / "files", tmp_path).images.rows) == NUM
    assert len(kept) == 2
    assert all(path.exists() for path in kept)


@pytest.mark.slow
def test_a_picture_that_ends_its_decoder_is_refused_and_the_others_are_there(streamed, monkeypatch, tmp_path):
    """A process that dies stands for a decoder that crashes on one file."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "pread = os.pread\n"
        "os.pread = lambda file, size, at: os._exit(9) if size == 666 else pread(file, size, at)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pixels: Streamed = streamed.images.pixels
    rows, refused = np.arange(40), []

    def pieces(some):
        return [
            one._replace(size=666) if row == 17 else one for row, one in zip(some, pixels._pieces(some), strict=True)
        ]

    crew = decoders.Crew(streamed.images.spec, processes=2, largest=40)
    (batch,) = crew.batches([rows], pieces, lambda *one: refused.append(one))
    crew.end()
    assert [row for row, _ in refused] == [17]
    assert "ended its decoder with status 9" in refused[0][1]
    others = np.delete(rows, 17)
    assert np.array_equal(batch[others], pixels[others])


def test_a_picture_is_decoded_when_it_is_asked_for_and_not_before(streamed, monkeypatch):
    asked: list[int] = []
    pixels: Streamed = streamed.images.pixels
    pieces = pixels._pieces
    monkeypatch.setattr(pixels, "_pieces", lambda rows: asked.append(len(rows)) or pieces(rows))
    next(pixels.batches(batches(streamed).rows(0), processes=0))
    assert asked == [16]
