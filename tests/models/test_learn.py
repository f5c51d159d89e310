from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.errors import InputError
from data.loader import Pictures
from data.prepare import Dataset
from models.config import Experiment
from models.pixels import measure
from models.records import EpochRecord
from models.run import RunFolder, open_run
from models.training.learn import learn, learner_for
from models.zoo.config_classic import SoftmaxConfig


@pytest.fixture
def folder(tmp_path: Path, tiny: Experiment) -> RunFolder:
    return open_run(tmp_path, tiny, "0" * 64)


def changed(experiment: Experiment, **train: object) -> Experiment:
    settings = experiment.model_dump()
    settings["train"] |= train
    return Experiment.model_validate(settings)


@pytest.mark.slow
def test_a_run_folder_holds_what_was_learnt(tiny: Experiment, toy: Dataset, folder: RunFolder):
    told = []
    summary = learn(tiny, toy, folder, on_epoch=told.append)
    assert folder.fit() == summary
    assert folder.history() == tuple(told)
    assert folder.experiment() == tiny
    assert folder.network().statistics == measure(toy.images.pixels, toy.split.train)
    weights = load_file(folder.weights_file)
    assert sum(tensor.numel() for name, tensor in weights.items() if tensor.is_floating_point()) > summary.parameters
    assert list(folder.tensorboard.glob("events.*"))
    assert not folder.checkpoint.exists()
    assert not folder.finished


@pytest.mark.slow
def test_learning_again_returns_at_once(tiny: Experiment, toy: Dataset, folder: RunFolder):
    first = learn(tiny, toy, folder)
    told = []
    assert learn(tiny, toy, folder, on_epoch=told.append) == first
    assert told == []


def test_bright_and_dark_are_told_apart(tiny: Experiment, toy: Dataset, folder: RunFolder):
    summary = learn(changed(tiny, epochs=6), toy, folder)
    assert folder.history()[summary.best_epoch].val_accuracy > 0.9


def test_balanced_sampling_shows_a_rare_class_as_often(tiny: Experiment, toy: Dataset):
    labels = toy.images.labels
    rare = toy.split.train[labels[toy.split.train] == 1][:3]
    rows = np.sort(np.concatenate([toy.split.train[labels[toy.split.train] == 0], rare]))

    def shares(experiment: Experiment) -> np.ndarray:
        learner = learner_for(experiment, toy.images, Pictures(toy.images.pixels), train=rows, val=rows, seed=0)
        return np.bincount(labels[np.concatenate(learner.batches.rows(0))])

    assert shares(tiny).tolist() == [24, 3]
    assert sorted(shares(changed(tiny, sampling="balanced"))) == [13, 14]
    with pytest.raises(ValueError, match="would both make up for rare classes; use one of them"):
        changed(tiny, sampling="balanced", loss={"kind": "focal", "class_weights": "balanced"})


def test_statistics_and_batches_come_from_the_training_rows_alone(tiny: Experiment, toy: Dataset):
    """Rows that are not for training are made unmistakable: any of them in a batch or a mean would show."""
    pixels = toy.images.pixels
    pixels[toy.split.val] = 255
    pixels[toy.split.test] = 255
    pixels[toy.split.train] = pixels[toy.split.train].clip(0, 250)
    learner = learner_for(tiny, toy.images, Pictures(pixels), train=toy.split.train, val=toy.split.val, seed=0)
    handed_out = [batch.pixels for epoch in range(3) for batch in learner.batches.epoch(epoch)]
    assert torch.cat(handed_out).max() <= 250
    assert sum(map(len, handed_out)) == 3 * len(toy.split.train)
    assert max(learner.statistics.mean) < 0.9
    np.testing.assert_allclose(learner.statistics.mean, (pixels[toy.split.train] / 255).mean(axis=(0, 1, 2)))


def test_a_batch_larger_than_the_data_is_refused(tiny: Experiment, toy: Dataset, folder: RunFolder):
    with pytest.raises(InputError, match="batch_size 64 is larger than the 48 training pictures; use at most 48"):
        learn(changed(tiny, batch_size=64), toy, folder)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_batch_of_one_picture_is_refused_where_there_is_batch_norm(tiny: Experiment, toy: Dataset, folder: RunFolder):
    with pytest.raises(InputError, match=r"train\.batch_size 1 .* use 2 or more"):
        learn(changed(tiny, batch_size=1), toy, folder)
    without = changed(tiny, batch_size=1).model_copy(update={"model": SoftmaxConfig()})
    assert learn(without, toy, folder).epochs_run > 0


def test_a_device_that_is_not_there_is_refused(tiny: Experiment, toy: Dataset, folder: RunFolder):
    with pytest.raises(InputError, match=r"train.devices cuda is not to be had here; use one of auto, .*cpu"):
        learn(changed(tiny, devices="cuda"), toy, folder)


@pytest.mark.slow
def test_what_was_chosen_by_trying_is_told_and_kept(tiny: Experiment, toy: Dataset, folder: RunFolder):
    settings = changed(tiny, batch_size="auto", epochs=1).model_dump() | {"model": SoftmaxConfig()}
    settings["optimizer"]["lr"] = "auto"
    told = []
    learn(Experiment.model_validate(settings), toy, folder, on_choice=told.append)
    test = folder.rate_test()
    assert test is not None
    assert told == [
        "batch size 48, chosen for cpu",
        f"learning rate {test.chosen:.2g}, by a range test of {len(test.rates)} steps",
    ]
    assert folder.batch_size() == 48
    assert folder.experiment().optimizer.lr == "auto"
    assert folder.history()[0].lr <= test.chosen


@pytest.mark.slow
def test_memory_that_runs_short_later_halves_a_batch_size_that_was_left_open(
    tiny: Experiment, toy: Dataset, folder: RunFolder, tmp_path: Path
):
    """As often as it takes. What is learnt then is what that batch size would have learnt from the beginning."""
    told: list[str] = []

    def crowded(record: EpochRecord) -> None:
        size = folder.batch_size()
        assert size is not None
        if size > 12 and record.epoch == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    learn(changed(tiny, batch_size="auto", epochs=2), toy, folder, on_epoch=crowded, on_choice=told.append)
    assert told == [
        "batch size 48, chosen for cpu",
        "memory ran short with batches of 48 pictures; training begins again with 24",
        "batch size 24, chosen for cpu",
        "memory ran short with batches of 24 pictures; training begins again with 12",
        "batch size 12, chosen for cpu",
    ]
    assert folder.batch_size() == 12
    assert [record.epoch for record in folder.history()] == [0, 1]
    asked_for = open_run(tmp_path / "asked for", tiny, "0" * 64)
    learn(changed(tiny, batch_size=12, epochs=2), toy, asked_for)
    assert folder.weights_file.read_bytes() == asked_for.weights_file.read_bytes()


def test_memory_that_runs_short_with_a_batch_size_that_was_given_is_a_sentence(
    tiny: Experiment, toy: Dataset, folder: RunFolder
):
    def crowded(_: EpochRecord) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with pytest.raises(InputError, match=r"train\.batch_size 16 does not fit .*; use 8, which was tried and fits"):
        learn(tiny, toy, folder, on_epoch=crowded)
    assert folder.batch_size() is None


def test_class_weights_come_from_the_training_rows_alone(tiny: Experiment, toy: Dataset):
    toy.images.snapshot.labels[toy.split.train] = np.arange(48) % 4 == 0
    chosen = changed(tiny, loss={"kind": "focal", "class_weights": "balanced"})
    pictures = Pictures(toy.images.pixels)
    learner = learner_for(chosen, toy.images, pictures, train=toy.split.train, val=toy.split.val, seed=0)
    assert learner.class_weights is not None
    assert learner.class_weights.tolist() == pytest.approx([2 / 3, 2.0])
