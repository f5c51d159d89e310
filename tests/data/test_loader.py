"""Batches: every row once, a function of (seed, epoch, step), whatever the placement and the prefetching."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from data.augment import resolve
from data.errors import InputError
from data.loader import Pictures, TrainBatches, eval_batches, smaller
from data.preprocess import centre
from data.sampling import balanced
from data.spec import AugmentConfig, ImageSpec

IMAGE = ImageSpec(height=4, width=4, channels=1, margin=1)
PLAIN = AugmentConfig(crop=0, flip=False)
MIXED = resolve(AugmentConfig(mixup=0.2, erase=0.5), IMAGE, mirror=True, any_size=True)
TRIVIAL = resolve(AugmentConfig(policy="trivial"), IMAGE, mirror=True, any_size=True)


def stored(num: int) -> np.ndarray:
    """Pictures that are their own row number, everywhere."""
    return np.broadcast_to(np.arange(num, dtype=np.uint8)[:, None, None, None], (num, 6, 6, 1)).copy()


def batches(
    num: int = 40, *, rows: np.ndarray | None = None, batch_size: int = 8, seed: int = 0, prefetch: int = 2,
    resident: bool = True, config: AugmentConfig = PLAIN, balanced: bool = False,
) -> TrainBatches:  # fmt: skip
    return TrainBatches(
        Pictures(stored(num), resident=resident),
        np.arange(num) % 5,
        np.arange(num) if rows is None else rows,
        batch_size=batch_size,
        seed=seed,
        image=IMAGE,
        config=config,
        num_classes=5,
        balanced=balanced,
        prefetch=prefetch,
    )


def seen(train: TrainBatches, epoch: int) -> list[list[int]]:
    return [batch.pixels[:, 0, 0, 0].tolist() for batch in train.epoch(epoch)]


def test_a_run_that_grows_begins_with_two_thirds_of_the_side():
    pixels = np.zeros((8, 24, 48, 1), np.uint8)
    train = TrainBatches(
        Pictures(pixels), np.zeros(8), np.arange(8), batch_size=4, seed=0,
        image=ImageSpec(height=24, width=48, channels=1), config=AugmentConfig(grow=0.5), num_classes=2,
    )  # fmt: skip
    sizes = [tuple(next(train.epoch(0, done=done)).pixels.shape[1:3]) for done in (0.0, 0.49, 0.5, 1.0)]
    assert sizes == [(16, 32), (16, 32), (24, 48), (24, 48)]
    assert smaller(IMAGE) == (4, 4)


ARROWS = np.broadcast_to(np.array([0, 1, 2, 3], np.uint8)[:, None], (64, 4, 4, 1)).copy()  # they rise to the right


@pytest.mark.parametrize("zoom", [0.0, 0.01], ids=["as they are", "sampled"])
def test_two_epochs_in_turns_show_both_sides_of_every_picture(zoom: float):
    image = ImageSpec(height=4, width=4, channels=1)
    config = resolve(AugmentConfig(alternate=True, crop=0, zoom=zoom, rotate=0.0), image, mirror=True, any_size=True)

    def turned(seed: int, epoch: int, *, start_step: int = 0) -> dict[int, bool]:
        train = TrainBatches(
            Pictures(ARROWS), np.arange(64), np.arange(0, 64, 2), batch_size=8, seed=seed, image=image, config=config,
            num_classes=64,
        )  # fmt: skip
        batches = train.epoch(epoch, start_step=start_step)
        return {int(n): bool(p[0, 0] > p[0, 3]) for b in batches for n, p in zip(b.targets, b.pixels, strict=True)}

    first, second = turned(0, 0), turned(0, 1)
    assert 4 < sum(first.values()) < 28
    assert second == {n: not side for n, side in first.items()}
    assert turned(0, 2) == first
    assert turned(1, 0) != first
    assert turned(0, 1, start_step=2).items() <= second.items()


@pytest.mark.slow
@settings(max_examples=50)
@given(num=st.integers(1, 60), batch_size=st.integers(1, 60), epoch=st.integers(0, 3), data=st.data())
def test_every_training_row_comes_once_an_epoch_and_no_other(num, batch_size, epoch, data):
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, num - 1), min_size=1))))
    batch_size = min(batch_size, len(rows))
    train = batches(num, rows=rows, batch_size=batch_size)
    steps = seen(train, epoch)
    assert sorted(row for step in steps for row in step) == rows.tolist()
    assert len(steps) == train.steps_per_epoch
    assert all(len(step) == batch_size for step in steps[:-1])
    assert len(steps[-1]) <= batch_size + 1
    assert batch_size == 1 or all(len(step) > 1 for step in steps), "batch norm cannot learn from one picture"


def test_labels_and_centres_belong_to_their_pictures():
    for batch in batches().epoch(0):
        assert torch.equal(batch.targets, batch.pixels[:, 0, 0, 0].long() % 5)
        assert batch.pixels.shape[1:] == (4, 4, 1)


def test_epochs_and_seeds_differ_and_repeat():
    train = batches()
    assert seen(train, 0) == seen(batches(), 0)
    assert seen(train, 0) != seen(train, 1)
    assert seen(train, 0) != seen(batches(seed=1), 0)
    assert seen(train, 1) != seen(batches(seed=1), 0)


@pytest.mark.parametrize("config", [MIXED, TRIVIAL], ids=["mixed", "trivial"])
@pytest.mark.parametrize("balanced", [False, True])
def test_an_epoch_can_start_in_the_middle(config, balanced):
    train = batches(config=config, balanced=balanced)
    whole = list(train.epoch(2))
    for start in range(train.steps_per_epoch + 1):
        rest = list(batches(config=config, balanced=balanced).epoch(2, start_step=start))
        assert len(rest) == len(whole) - start
        for expected, batch in zip(whole[start:], rest, strict=True):
            assert torch.equal(expected.pixels, batch.pixels)
            assert torch.equal(expected.targets, batch.targets)


@settings(max_examples=50)
@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), seed=st.integers(0, 9), epoch=st.integers(0, 40))
def test_balanced_epochs_have_every_class_equally_often(counts, seed, epoch):
    labels = np.repeat(np.arange(len(counts)) * 3, counts)  # some classes have no training pictures
    rows = np.arange(len(labels)) + 100
    order = balanced(rows, labels, seed=seed, epoch=epoch)
    assert len(order) == len(rows)
    per_class = np.bincount(labels[order - 100], minlength=3 * len(counts))[::3]
    assert per_class.max() - per_class.min() <= 1
    several = [balanced(rows, labels, seed=seed, epoch=epoch + i) for i in range(len(counts))]
    in_all = np.bincount(labels[np.concatenate(several) - 100], minlength=3 * len(counts))[::3]
    assert set(in_all.tolist()) == {len(rows)}, "over as many epochs as there are classes, exactly"


def test_balanced_epochs_go_through_a_large_class_and_repeat_a_small_one():
    labels = np.repeat([0, 1, 2], [300, 30, 6])
    rows, num = np.arange(336), 112  # of each class in each epoch
    epochs = [balanced(rows, labels, seed=0, epoch=epoch) for epoch in range(30)]
    large = np.concatenate([order[labels[order] == 0] for order in epochs])
    for epoch in range(2, 30):  # 3 epochs show 336 of 300
        upto = np.bincount(large[: num * (epoch + 1)], minlength=300)
        assert upto.max() - upto.min() <= 1, "none comes again before all have come"
        assert upto.min() >= 1
    for order in epochs:
        small = np.bincount(order[labels[order] == 2] - 330, minlength=6)
        assert small.max() - small.min() <= 2, "an epoch may begin and end in the middle of an order"
        assert small.min() >= num // 6 - 1


def test_balanced_epochs_and_seeds_differ_and_repeat():
    rows = np.arange(3, 40)
    train = batches(rows=rows, balanced=True)
    assert train.steps_per_epoch == batches(rows=rows).steps_per_epoch == len(seen(train, 0))
    assert seen(train, 1) == seen(batches(rows=rows, balanced=True), 1)
    assert seen(train, 0) != seen(train, 1)
    assert seen(train, 0) != seen(batches(rows=rows, balanced=True, seed=1), 0)
    assert {row for epoch in range(3) for step in seen(train, epoch) for row in step} == set(rows.tolist())


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("prefetch", [0, 1, 7])
def test_prefetching_and_placement_change_nothing(prefetch, resident):
    expected = list(batches(config=MIXED).epoch(1))
    for batch, other in zip(
        expected, batches(config=MIXED, prefetch=prefetch, resident=resident).epoch(1), strict=True
    ):
        assert torch.equal(batch.pixels, other.pixels)
        assert torch.equal(batch.targets, other.targets)


def test_a_streamed_epoch_that_is_left_early_leaves_no_thread():
    for batch in batches(resident=False).epoch(0):
        assert len(batch.pixels) == 8
        break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_a_failure_while_reading_ahead_reaches_the_reader():
    with pytest.raises((IndexError, RuntimeError)):
        list(Pictures(stored(10), resident=False).batches([np.arange(4), np.arange(8, 12)]))


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(InputError, match=r"batch_size 41 is larger than the 40 training pictures; use at most 40"):
        batches(batch_size=41)


def test_a_memory_map_is_read_in_place_and_without_warnings(tmp_path, recwarn):
    stored(20).tofile(tmp_path / "pixels.u8")
    pixels = np.memmap(tmp_path / "pixels.u8", np.uint8, "r", shape=(20, 6, 6, 1))
    assert Pictures(pixels).gather(np.array([3, 1]))[:, 0, 0, 0].tolist() == [3, 1]
    assert not recwarn.list


@pytest.mark.parametrize("batch_size", [1, 7, 8, 100])
@pytest.mark.parametrize("resident", [True, False])
def test_evaluation_is_in_order_and_of_the_centre(batch_size, resident):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 1), dtype=np.uint8)
    labels, rows = np.arange(30) % 5, np.arange(29, 3, -2)
    found = list(eval_batches(Pictures(pixels, resident=resident), labels, rows, batch_size=batch_size, image=IMAGE))
    assert np.array_equal(torch.cat([batch.pixels for batch in found]).numpy(), centre(pixels[rows], IMAGE))
    assert np.array_equal(torch.cat([batch.targets for batch in found]).numpy(), labels[rows])
    assert all(batch.pixels.is_contiguous() for batch in found)


def test_no_rows_to_evaluate_are_no_batches():
    nothing = np.array([], np.int64)
    assert list(eval_batches(Pictures(stored(3)), np.arange(3), nothing, batch_size=2, image=IMAGE)) == []


class Copies(TorchDispatchMode):
    """Counts what is brought from one device to another."""

    num = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num += func is torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


def test_evaluation_brings_rows_and_labels_to_the_device_once_and_not_for_each_batch():
    """A device without memory stands for a GPU, which would be waited for at every copy."""
    pictures = Pictures(stored(40), "meta", resident=True)
    with Copies() as copies:
        found = list(eval_batches(pictures, np.arange(40) % 5, np.arange(1, 40), batch_size=4, image=IMAGE))
    assert [len(batch.targets) for batch in found] == [4] * 9 + [3]
    assert {tensor.device.type for batch in found for tensor in batch} == {"meta"}
    assert copies.num == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("resident", [True, False])
def test_batches_arrive_on_the_gpu(resident):
    train = TrainBatches(
        Pictures(stored(40), "cuda", resident=resident),
        np.arange(40) % 5,
        np.arange(40),
        batch_size=8,
        seed=0,
        image=IMAGE,
        config=MIXED,
        num_classes=5,
    )
    assert all(batch.pixels.is_cuda and batch.targets.is_cuda for batch in train.epoch(0))
