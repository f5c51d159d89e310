"""An experiment and its pictures -> best weights in a run folder: `fit` wired to data and files."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from data import whole
from data.augment import resolve
from data.images import Images
from data.loader import Pictures, TrainBatches, eval_batches
from data.prepare import Dataset
from models.config import Experiment
from models.device import choose_device
from models.evaluation.inference import validate
from models.pixels import measure
from models.records import EpochRecord, FitSummary, PixelStatistics, RateTest
from models.run import NetworkSpec, RunFolder
from models.training.board import Board
from models.training.checkpoint import Checkpoints
from models.training.fit import FitResult, Validation, fit, ignore
from models.training.losses import class_weights_for
from models.training.pulse import ProgressUpdate
from models.training.trial import choose_batch_size, fits_memory
from models.training.utilisation import with_utilisation
from models.zoo.build import any_size, build, load_published, published_statistics

EVAL_BATCH = 256  # pictures; no gradients are kept, so more than in training fit


@dataclass(frozen=True)
class Learner:
    """What a training run or a fold needs, made from its own training rows; `learner_for` builds it."""

    net: nn.Module
    batches: TrainBatches
    statistics: PixelStatistics
    validate: Callable[[nn.Module], Validation]
    class_weights: Tensor | None = None


def learn(
    experiment: Experiment,
    dataset: Dataset,
    folder: RunFolder,
    *,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
    on_choice: Callable[[str], None] = ignore,
) -> FitSummary:
    """Train on the training rows, choose by the validation rows, and leave the best weights in the folder.

    `on_choice` hears in a sentence what was chosen by trying, where something was left to that.
    Goes on where an earlier process was killed, and returns at once where it had ended. Raises `InputError`.
    """
    checkpoints = Checkpoints(folder.checkpoint)
    if folder.learned:
        checkpoints.clear()  # a kill may have come between the last file and this
        return folder.fit()
    learner = learner_in(folder, experiment, dataset, on_choice=on_choice)
    board = Board(folder.tensorboard, learner.batches)

    def write_down(record: EpochRecord) -> None:
        folder.write_epoch(record)
        board.epoch(record)
        on_epoch(record)

    result = run_fit(
        experiment,
        learner,
        checkpoints=checkpoints,
        on_epoch=write_down,
        on_progress=on_progress,
        on_rates=partial(keep_rates, folder, on_choice),
    )
    board.close()
    whole.write(folder.weights_file, save(result.weights))
    summary = with_utilisation(result.summary, result.history, learner.net, learner.batches, dataset.images.spec)
    folder.write_fit(summary)
    checkpoints.clear()
    return summary


def keep_rates(folder: RunFolder, on_choice: Callable[[str], None], test: RateTest) -> None:
    folder.write_rate_test(test)
    on_choice(f"learning rate {test.chosen:.2g}, by a range test of {len(test.rates)} steps")


def learner_in(
    folder: RunFolder, experiment: Experiment, dataset: Dataset, *, on_choice: Callable[[str], None]
) -> Learner:
    """What a run needs; the folder says what it is, and keeps a batch size that was found by trying."""
    images, split, config = dataset.images, dataset.split, experiment.train
    pictures = Pictures(images.pixels, choose_device(config.devices))
    known = folder.batch_size()
    learner = learner_for(
        experiment, images, pictures, train=split.train, val=split.val, seed=config.seed, batch_size=known
    )
    folder.write_experiment(experiment)
    folder.write_network(NetworkSpec(image=images.spec, statistics=learner.statistics, classes=images.classes))
    if config.batch_size == "auto":
        size = learner.batches.batch_size
        folder.write_batch_size(size)
        on_choice(f"batch size {size}, chosen for {pictures.device.type}")
    return learner


def learner_for(
    experiment: Experiment,
    images: Images,
    pictures: Pictures,
    *,
    train: np.ndarray,
    val: np.ndarray,
    seed: int,
    batch_size: int | None = None,
) -> Learner:
    """Network and batches; pixel statistics (unless published) and class weights from the training rows alone.

    `batch_size` is one that was found before, by trying. Raises `InputError`.
    """
    statistics = published_statistics(experiment.model) or measure(images.pixels, train)
    torch.manual_seed(seed)
    net = build(experiment.model, images.spec, statistics, len(images.classes))
    load_published(net)
    net.to(pictures.device)
    labels, num_classes, config = images.labels, len(images.classes), experiment.train
    weights = class_weights_for(config.loss, labels[train], num_classes=num_classes)
    weights = None if weights is None else weights.to(pictures.device)

    def batches_of(size: int) -> TrainBatches:
        return train_batches(experiment, images, pictures, train, batch_size=size, seed=seed)

    def fits(size: int) -> bool:
        return fits_memory(net, batches_of(size), optimizer=experiment.optimizer, config=config, class_weights=weights)

    size = batch_size or choose_batch_size(config, num_pictures=len(train), device=pictures.device, fits=fits)

    def judge(net: nn.Module) -> Validation:
        seen = eval_batches(pictures, labels, val, batch_size=EVAL_BATCH, image=images.spec)
        return validate(net, seen, precision=config.precision)

    return Learner(net, batches_of(size), statistics, judge, class_weights=weights)


def train_batches(
    experiment: Experiment, images: Images, pictures: Pictures, rows: np.ndarray, *, batch_size: int, seed: int
) -> TrainBatches:
    return TrainBatches(
        pictures,
        images.labels,
        rows,
        batch_size=batch_size,
        seed=seed,
        image=images.spec,
        config=resolve(
            experiment.augment, images.spec, mirror=images.snapshot.mirror, any_size=any_size(experiment.model)
        ),
        num_classes=len(images.classes),
    )


def run_fit(
    experiment: Experiment,
    learner: Learner,
    *,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
    on_rates: Callable[[RateTest], None] = ignore,
) -> FitResult:
    return fit(
        learner.net,
        learner.batches,
        learner.validate,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        config=experiment.train,
        class_weights=learner.class_weights,
        checkpoints=checkpoints,
        on_epoch=on_epoch,
        on_progress=on_progress,
        on_rates=on_rates,
    )
