"""An experiment and its pictures -> best weights in a run folder: `fit` wired to data and files."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from data import whole
from data.augment import resolve
from data.images import Images
from data.loader import Pictures, TrainBatches, eval_batches
from data.prepare import Dataset
from models.config import Experiment
from models.device import choose_device
from models.evaluation.inference import validate
from models.pixels import measure
from models.records import EpochRecord, FitSummary, PixelStatistics
from models.run import NetworkSpec, RunFolder
from models.training.board import Board
from models.training.checkpoint import Checkpoints
from models.training.fit import FitResult, Validation, fit, ignore
from models.training.pulse import ProgressUpdate
from models.zoo.build import build, load_published, published_statistics

BATCH_SIZE = 64  # pictures in a step, where no other is asked for
EVAL_BATCH = 256  # pictures; no gradients are kept, so more than in training fit


@dataclass(frozen=True)
class Learner:
    """What a training run or a fold needs, made from its own training rows; `learner_for` builds it."""

    net: nn.Module
    batches: TrainBatches
    statistics: PixelStatistics
    validate: Callable[[nn.Module], Validation]


def learn(
    experiment: Experiment,
    dataset: Dataset,
    folder: RunFolder,
    *,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
) -> FitSummary:
    """Train on the training rows, choose by the validation rows, and leave the best weights in the folder.

    Goes on where an earlier process was killed, and returns at once where it had ended. Raises `InputError`.
    """
    checkpoints = Checkpoints(folder.checkpoint)
    if folder.learned:
        checkpoints.clear()  # a kill may have come between the last file and this
        return folder.fit()
    images, split = dataset.images, dataset.split
    pictures = Pictures(images.pixels, choose_device(experiment.train.devices))
    learner = learner_for(experiment, images, pictures, train=split.train, val=split.val, seed=experiment.train.seed)
    folder.write_experiment(experiment)
    folder.write_network(NetworkSpec(image=images.spec, statistics=learner.statistics, classes=images.classes))
    board = Board(folder.tensorboard, learner.batches)

    def write_down(record: EpochRecord) -> None:
        folder.write_epoch(record)
        board.epoch(record)
        on_epoch(record)

    result = run_fit(experiment, learner, checkpoints=checkpoints, on_epoch=write_down, on_progress=on_progress)
    board.close()
    whole.write(folder.weights_file, save(result.weights))
    folder.write_fit(result.summary)
    checkpoints.clear()
    return result.summary


def learner_for(
    experiment: Experiment, images: Images, pictures: Pictures, *, train: np.ndarray, val: np.ndarray, seed: int
) -> Learner:
    """Network and batches; pixel statistics from the training rows alone, or as published. Raises `InputError`."""
    statistics = published_statistics(experiment.model) or measure(images.pixels, train)
    torch.manual_seed(seed)
    net = build(experiment.model, images.spec, statistics, len(images.classes))
    load_published(net)
    batches = TrainBatches(
        pictures,
        images.labels,
        train,
        batch_size=experiment.train.batch_size or min(BATCH_SIZE, len(train)),
        seed=seed,
        image=images.spec,
        config=resolve(experiment.augment, images.spec, mirror=images.snapshot.mirror),
        num_classes=len(images.classes),
    )
    labels = images.labels

    def judge(net: nn.Module) -> Validation:
        seen = eval_batches(pictures, labels, val, batch_size=EVAL_BATCH, image=images.spec)
        return validate(net, seen, precision=experiment.train.precision)

    return Learner(net=net.to(pictures.device), batches=batches, statistics=statistics, validate=judge)


def run_fit(
    experiment: Experiment,
    learner: Learner,
    *,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
) -> FitResult:
    return fit(
        learner.net,
        learner.batches,
        learner.validate,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        config=experiment.train,
        checkpoints=checkpoints,
        on_epoch=on_epoch,
        on_progress=on_progress,
    )
