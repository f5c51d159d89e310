"""A step and an answer on a GPU are handed over and not waited for: torch raises where one is."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import pytest
import torch

from data.augment import resolve
from data.loader import Pictures, TrainBatches, eval_batches
from data.spec import AugmentConfig, ImageSpec
from models.config import TrainConfig
from models.evaluation.inference import logits_of
from models.records import PixelStatistics
from models.training.config import AdamWConfig
from models.training.optim import build_optimizer
from models.training.state import Averaging, copy_for_average
from models.training.step import train_step
from models.zoo.build import build, start_from
from models.zoo.config import CNNConfig, WhitenedConfig

IMAGE, NUM, CLASSES = ImageSpec(height=32, width=32), 64, 4
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


STATISTICS = PixelStatistics(mean=(0.5,) * 3, std=(0.25,) * 3)


@contextmanager
def unwaited() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def pictures(*, resident: bool) -> Pictures:
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, 32, 32, 3), dtype=np.uint8)
    return Pictures(pixels, "cuda", resident=resident)


def network() -> torch.nn.Module:
    return build(CNNConfig(width=8), IMAGE, STATISTICS, CLASSES).cuda()


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_no_step_of_training_waits_for_a_gpu(resident: bool, clip_norm: float | None):
    asked = AugmentConfig(policy="trivial", alternate=True, erase=0.25, mixup=0.2, cutmix=1.0)
    batches = TrainBatches(
        pictures(resident=resident),
        np.arange(NUM) % CLASSES,
        np.arange(NUM),
        batch_size=16,
        seed=0,
        image=IMAGE,
        config=resolve(asked, IMAGE, mirror=True, any_size=True),
        num_classes=CLASSES,
    )
    net = network().train()
    optimizer = build_optimizer(net, AdamWConfig())

    averaging = Averaging(copy_for_average(net), net, decay=0.9)

    def steps(epoch: int) -> torch.Tensor:
        figures = []
        for step, (seen, targets) in enumerate(islice(batches.epoch(epoch), 2)):
            figures.append(train_step(net, optimizer, seen, targets, config=TrainConfig(clip_norm=clip_norm)))
            averaging.update(step=step)
        return torch.stack(figures)

    steps(0)  # fills what is kept, such as the quantiles of mixup
    with unwaited():
        figures = steps(1)
    assert figures.isfinite().all()


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
def test_no_batch_of_an_evaluation_waits_for_a_gpu(resident: bool):
    labels, there = np.arange(NUM) % CLASSES, pictures(resident=resident)
    net = network()
    with unwaited():
        seen = eval_batches(there, labels, np.arange(NUM), batch_size=24, image=IMAGE)
        logits, targets = logits_of(net, seen, precision="auto")
    assert logits.shape == (NUM, CLASSES)
    assert targets.tolist() == labels.tolist()


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
def test_a_first_layer_is_computed_from_pictures_with_one_wait(resident: bool):
    net, there = build(WhitenedConfig(width=8), IMAGE, STATISTICS, CLASSES).cuda(), pictures(resident=resident)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            start_from(net, there, np.arange(NUM), IMAGE)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([wait for wait in waits if "called a synchronizing" in str(wait.message)]) == 1
