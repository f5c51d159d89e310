"""An experiment and its pictures -> best weights in a run folder: `fit` wired to data and files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

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
from models.training.distributed import ALONE, Ranks
from models.training.fit import Validation, fit, ignore
from models.training.memory import one_step, within_memory
from models.training.norms import with_shared_norms
from models.training.pulse import ProgressUpdate, never
from models.training.state import FitResult
from models.zoo.build import build

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
    on_trouble: Callable[[str], None] = ignore,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> FitSummary:
    """Train on the training rows, choose by the validation rows, and leave the best weights in the folder.

    Goes on where an earlier process was killed, and returns at once where it had ended. `on_trouble` hears of what is
    wrong but no reason to stop. Raises `InputError`, `Diverged`, `Stopped`.
    """
    checkpoints = Checkpoints(
        folder.checkpoint,
        every_steps=experiment.train.checkpoint_every,
        writes=ranks.writes,
        on_trouble=on_trouble,
    )
    if folder.learned:
        checkpoints.clear()  # a kill may have come between the last file and this
        return folder.fit()
    learner = learner_of(experiment, dataset, ranks=ranks)
    with diary(experiment, dataset, learner, folder, on_epoch, writes=ranks.writes) as write_down:
        train = partial(run_fit, checkpoints=checkpoints, on_epoch=write_down, on_progress=on_progress, stop=stop)
        result = within_memory(
            partial(train, experiment, learner, ranks=ranks),
            size=learner.batches.batch_size,
            attempt=one_step(learner.net, learner.batches, experiment),
            fixed=ranks.num > 1,
        )
    summary = result.summary.model_copy(update={"device": ranks.describe(result.summary.device)})
    if ranks.writes:
        whole.write(folder.weights_file, save(result.weights))
        folder.write_fit(summary)
        checkpoints.clear()
    return summary


@contextmanager
def diary(
    experiment: Experiment,
    dataset: Dataset,
    learner: Learner,
    folder: RunFolder,
    on_epoch: Callable[[EpochRecord], None],
    *,
    writes: bool,
) -> Iterator[Callable[[EpochRecord], None]]:
    """What is written down of a training under way, and told: settings at its start, every epoch as it ends."""
    if not writes:
        yield ignore
        return
    images = dataset.images
    folder.write_experiment(experiment)
    folder.write_network(NetworkSpec(image=images.spec, statistics=learner.statistics, classes=images.classes))
    board = Board(folder.tensorboard, learner.batches)

    def write_down(record: EpochRecord) -> None:
        folder.write_epoch(record)
        board.epoch(record)
        on_epoch(record)

    try:
        yield write_down
    finally:
        board.close()


def learner_of(experiment: Experiment, dataset: Dataset, *, ranks: Ranks = ALONE) -> Learner:
    """For the run itself: trained on the training rows, judged by the validation rows."""
    images, split = dataset.images, dataset.split
    return learner_for(
        experiment,
        images,
        Pictures(images.pixels, choose_device(experiment.train.devices)),
        train=split.train,
        val=split.val,
        seed=experiment.train.seed,
        ranks=ranks,
    )


def learner_for(
    experiment: Experiment,
    images: Images,
    pictures: Pictures,
    *,
    train: np.ndarray,
    val: np.ndarray,
    seed: int,
    ranks: Ranks = ALONE,
) -> Learner:
    """Network and batches; pixel statistics from the training rows alone. Raises `InputError`."""
    statistics = measure(images.pixels, train)
    torch.manual_seed(seed)
    net = build(experiment.model, images.spec, statistics, len(images.classes))
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
    labels, rows = images.labels, val[ranks.part(len(val))]

    def judge(net: nn.Module) -> Validation:
        seen = eval_batches(pictures, labels, rows, batch_size=EVAL_BATCH, image=images.spec)
        own = validate(net, seen, precision=experiment.train.precision) if len(rows) else Validation(0.0, 0.0)
        return Validation(*ranks.mean(own, num=len(rows)))

    net = net.to(pictures.device)
    net = net if ranks.num == 1 else with_shared_norms(net)
    return Learner(net=net, batches=batches, statistics=statistics, validate=judge)


def run_fit(
    experiment: Experiment,
    learner: Learner,
    *,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
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
        stop=stop,
        ranks=ranks,
    )
