"""A batch that does not fit: which one would is found by trying, on a network that runs out of memory by itself."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.errors import InputError
from data.loader import Pictures
from data.prepare import Dataset
from data.spec import ImageSpec
from models.config import Experiment, TrainConfig
from models.training.config import AdamWConfig
from models.training.distributed import Ranks
from models.training.judging import Room, answered_at_once, logits
from models.training.learn import Learner, learner_for, run_fit
from models.training.memory import Short, largest, network_fits, one_step, within_memory
from models.training.trial import fits_memory

SMALL = ImageSpec(height=32, width=32)
MORE_THAN_THERE_IS = 1 << 50  # bytes


class Hungry(nn.Module):
    """Takes at most so many pictures, as a small GPU does."""

    def __init__(self, most: int, *, gpu: bool = True) -> None:
        super().__init__()
        self.most, self.gpu, self.layer = most, gpu, nn.Linear(3, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        if len(pixels) > self.most:
            if not self.gpu:
                torch.empty(MORE_THAN_THERE_IS, dtype=torch.uint8)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.layer(pixels.float().mean((1, 2)))


class OneBatch:
    """Of so many pictures, where there is room to make it."""

    steps_per_epoch, growing = 1, 0.0

    def __init__(self, size: int = 64, *, most: int = 64) -> None:
        self.size, self.most = size, most

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ARG002
        if self.size > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 10.00 GiB.")
        yield torch.zeros(self.size, 4, 4, 3, dtype=torch.uint8), torch.arange(self.size) % 2


class Broken(Hungry):
    def forward(self, pixels: Tensor) -> Tensor:  # noqa: ARG002
        raise RuntimeError("shapes cannot be multiplied")


def trained(most: int, *, fixed: bool = False, auto: bool = False, gpu: bool = True) -> str:
    net, batches = Hungry(most, gpu=gpu), OneBatch()

    def train() -> str:
        for pixels, _ in batches.epoch(0):
            net(pixels)
        return "trained"

    return within_memory(train, size=64, attempt=one_step(net, OneBatch, Experiment()), fixed=fixed, auto=auto)


def test_what_fits_is_trained():
    assert trained(64) == "trained"


@pytest.mark.parametrize(("most", "fits"), [(63, 32), (16, 16), (15, 8), (2, 2)])
def test_the_sentence_names_the_batch_size_that_fits(most: int, fits: int):
    with pytest.raises(InputError) as said:
        trained(most)
    assert str(said.value) == (
        f"train.batch_size 64 does not fit into the memory of the device; use {fits}, which was tried and fits"
    )


def test_a_network_that_fits_with_no_batch_is_said_so():
    with pytest.raises(InputError, match=r"with no train.batch_size from 64 down to 2; use smaller pictures"):
        trained(1)


def test_one_of_several_processes_tries_nothing():
    with pytest.raises(InputError, match=r"use 32$"):
        trained(2, fixed=True)
    with pytest.raises(InputError, match=r"use 32$"):
        trained(2, fixed=True, auto=True)


def test_a_batch_size_that_was_left_open_is_answered_by_the_one_that_fits():
    with pytest.raises(Short, match="with batches of 64 pictures; training begins again with 16") as short:
        trained(20, auto=True)
    assert short.value.fits == 16
    with pytest.raises(InputError, match=r"with no train.batch_size from 64 down to 2"):
        trained(1, auto=True)


def test_the_largest_that_fits_may_be_the_one_that_was_asked_for():
    """What `batch_size = "auto"` asks."""
    tried = []
    assert largest(64, tried.append) == 64
    assert tried == [64]


def test_trying_leaves_no_trace_in_the_network():
    net = Hungry(16)
    before = net.layer.weight.clone()
    assert largest(64, one_step(net, OneBatch, Experiment())) == 16
    assert torch.equal(net.layer.weight, before)


def test_no_batch_is_made_that_is_larger_than_the_one_that_is_tried():
    """Changing pictures at random takes memory too, before the network sees them."""

    def batches_of(size: int) -> OneBatch:
        return OneBatch(size, most=8)

    assert largest(64, one_step(Hungry(16), batches_of, Experiment())) == 8


def test_the_batches_of_another_size_hold_the_same_pictures_in_the_same_order(tiny: Experiment, toy: Dataset):
    batches = hungry(tiny, toy, 16).batches
    smaller = batches.of_size(6)
    assert (batches.batch_size, smaller.batch_size, smaller.steps_per_epoch) == (16, 6, 8)
    assert np.array_equal(np.concatenate(smaller.rows(1)), np.concatenate(batches.rows(1)))
    assert [len(targets) for _, targets in smaller.epoch(0)] == [6] * 8


def test_a_processor_whose_memory_is_full_gets_the_same_sentence():
    with pytest.raises(InputError, match=r"train\.batch_size 64 does not fit .* use 16, which was tried and fits"):
        trained(20, gpu=False)


def test_a_network_that_cannot_even_be_made_is_one_sentence():
    with pytest.raises(InputError, match=r"the network does not fit .* use smaller pictures"), network_fits():
        nn.Linear(MORE_THAN_THERE_IS >> 24, 1 << 22)


@pytest.mark.parametrize(("batch_size", "accumulate", "most"), [(16, 1, 16), (16, 4, 4), (5, 2, 3)])
def test_validation_takes_no_more_pictures_at_once_than_training(
    batch_size: int, accumulate: int, most: int, tiny: Experiment, toy: Dataset
):
    """Which the device has room for: the 24 of the validation set at once are too many for it."""
    train = tiny.train.model_copy(update={"batch_size": batch_size, "accumulate": accumulate, "epochs": 1})
    chosen = tiny.model_copy(update={"train": train})
    result = run_fit(chosen, hungry(chosen, toy, most))
    assert len(result.history) == 1


def test_evaluation_takes_no_more_pictures_at_once_than_training(toy: Dataset):
    pictures = Pictures(toy.images.pixels)
    assert logits(Hungry(4), pictures, toy.images, toy.split.test, at_once=4).shape == (24, 2)
    assert answered_at_once(TrainConfig(accumulate=4), 16) == 4
    assert answered_at_once(TrainConfig(), 5000) == 256
    assert answered_at_once(TrainConfig(), 5, ranks=Ranks(0, 2)) == 3


def test_a_gpu_answers_to_many_pictures_at_once_where_there_is_room():
    net, sizes = Hungry(2000), []

    def answers(size: int) -> int:
        sizes.append(size)
        return len(net(torch.zeros(size, 4, 4, 3)))

    room = Room(8, SMALL, torch.device("cuda"))
    assert (room.answer(answers), room.answer(answers)) == (1024, 1024)
    net.most = 100
    assert (room.answer(answers), room.answer(answers)) == (8, 8), "what did not fit once is not tried again"
    assert sizes == [1024, 1024, 1024, 8, 8]
    net.most = 4
    with pytest.raises(torch.OutOfMemoryError):
        room.answer(answers)


@pytest.mark.parametrize(
    ("device", "side", "size"), [("cpu", 32, 64), ("cuda", 32, 1024), ("cuda", 256, 256), ("cuda", 1024, 64)]
)
def test_only_batches_that_are_small_for_a_gpu_are_larger_than_in_training(device: str, side: int, size: int):
    room = Room(64, ImageSpec(height=side, width=side), torch.device(device))
    assert room.answer(lambda size: size) == size


def test_answers_that_fail_otherwise_are_not_asked_for_again():
    with pytest.raises(RuntimeError, match="multiplied"):
        Room(8, SMALL, torch.device("cuda")).answer(lambda size: Broken(3)(torch.zeros(size, 3)))


def test_a_fold_whose_batch_does_not_fit_gets_the_sentence_of_a_training(tiny: Experiment, toy: Dataset):
    with pytest.raises(InputError, match=r"train\.batch_size 16 does not fit .* use 8, which was tried and fits"):
        run_fit(tiny, hungry(tiny, toy, 8))


def hungry(chosen: Experiment, toy: Dataset, most: int) -> Learner:
    pictures = Pictures(toy.images.pixels)
    learner = learner_for(chosen, toy.images, pictures, train=toy.split.train, val=toy.split.val, seed=0)
    return replace(learner, net=Hungry(most))


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "MPS backend out of memory (MPS allocated: 9.00 GB, other allocations: 1.00 GB, max allowed: 10.00 GB).",
    ],
)
def test_full_memory_is_known_whoever_finds_it(said: str):
    """The driver and the libraries on a GPU raise no `torch.OutOfMemoryError`."""

    class Full(Hungry):
        def forward(self, pixels: Tensor) -> Tensor:
            if len(pixels) > self.most:
                raise torch.AcceleratorError(said) if said.startswith("CUDA error: out") else RuntimeError(said)
            return super().forward(pixels)

    net, batches = Full(16), OneBatch()
    assert largest(64, one_step(net, OneBatch, Experiment())) == 16
    assert not fits_memory(net, batches, optimizer=AdamWConfig(), config=TrainConfig())
    with pytest.raises(InputError, match="the network does not fit"), network_fits():
        net(torch.zeros(64, 4, 4, 3))


def test_other_errors_are_not_taken_for_full_memory():
    def fails() -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        within_memory(fails, size=64, attempt=lambda _: None)
    with pytest.raises(RuntimeError, match="multiplied"):
        fits_memory(Broken(3), OneBatch(), optimizer=AdamWConfig(), config=TrainConfig())
    with pytest.raises(RuntimeError, match="multiplied"), network_fits():
        fails()
