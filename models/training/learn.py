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
from data.errors import RunFailed
from data.images import Images
from data.loader import Pictures, TrainBatches
from data.prepare import Dataset
from models.config import Experiment, TrainConfig
from models.device import training_device
from models.mirror import check_mirror
from models.pixels import measure
from models.records import EpochRecord, FitSummary, PixelStatistics, RateTest
from models.room import must_be_written
from models.run import RunFolder
from models.training.checkpoint import Checkpoints
from models.training.diary import diary
from models.training.distributed import ALONE, Ranks
from models.training.fit import Validation, fit, ignore
from models.training.judging import answered_at_once, judge_for
from models.training.losses import class_weights_for
from models.training.memory import Short, network_fits, one_step, until_it_fits, within_memory
from models.training.norms import require_company, with_shared_norms
from models.training.pulse import ProgressUpdate, heed, never
from models.training.state import FitResult
from models.training.step import parts_of
from models.training.trial import choose_batch_size, fits_memory
from models.training.utilisation import with_utilisation
from models.zoo.build import any_size, build, load_published, published_statistics, start_from


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
    on_trouble: Callable[[str], None] = ignore,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> FitSummary:
    """Train on the training rows, choose by the validation rows, and leave the best weights in the folder.

    Goes on where an earlier process was killed, and returns at once where it had ended. `on_choice` hears what was
    chosen by trying, `on_trouble` what is wrong but no reason to stop. Raises `InputError`, `Stopped`, `RunFailed`.
    """
    every = experiment.train.checkpoint_every
    checkpoints = Checkpoints(folder.checkpoint, every_steps=every, writes=ranks.writes, on_trouble=on_trouble)
    if folder.learned:
        checkpoints.clear()  # a kill may have come between the last file and this
        return folder.fit()
    heard, again = (on_epoch, on_choice, on_trouble), partial(begin_again, folder, checkpoints, on_choice)

    def train(batch_size: int | None) -> tuple[Learner, FitResult]:
        learner = learner_in(experiment, dataset, batch_size=batch_size, stop=stop, ranks=ranks)
        with diary(experiment, dataset, learner, folder, *heard, writes=ranks.writes) as (epoch, rates):
            fitted = partial(run_fit, checkpoints=checkpoints, on_epoch=epoch, on_progress=on_progress, on_rates=rates)
            return learner, fitted(experiment, learner, stop=stop, ranks=ranks)

    learner, result = until_it_fits(train, size=folder.batch_size(), on_short=again)
    summary = with_utilisation(
        result.summary, result.history, learner.net, learner.batches, dataset.images.spec, devices=ranks.num
    )
    summary = summary.model_copy(update={"device": ranks.describe(summary.device)})
    if ranks.writes:
        keep(folder, result, summary)
        checkpoints.clear()
    return summary


def keep(folder: RunFolder, result: FitResult, summary: FitSummary) -> None:
    """Raises `RunFailed` for a disk that is full: the checkpoint stays then."""
    try:
        whole.write(folder.weights_file, save(result.weights))
        folder.write_history(result.history)  # with what a full disk may have kept out of it
        folder.write_fit(summary)
    except OSError as error:
        raise RunFailed(
            f"the trained network could not be written to {folder.path} ({error.strerror or error}); the last "
            f"checkpoint stays: make room, and the same command or `trainserve run --resume {folder.run_id}` goes on "
            "from it"
        ) from error


def begin_again(folder: RunFolder, checkpoints: Checkpoints, on_choice: Callable[[str], None], short: Short) -> None:
    """The checkpoints go before the batch size is written, or a kill in between would leave some of other batches."""
    checkpoints.clear()
    with must_be_written(folder.path):
        folder.write_batch_size(short.fits)
    on_choice(str(short))


def learner_in(
    experiment: Experiment,
    dataset: Dataset,
    *,
    batch_size: int | None = None,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> Learner:
    """For the run itself: trained on the training rows, judged by the validation rows."""
    images, split, config = dataset.images, dataset.split, experiment.train
    return learner_for(
        experiment,
        images,
        Pictures(images.pixels, training_device(config.devices)),
        train=split.train,
        val=split.val,
        seed=config.seed,
        batch_size=batch_size,
        stop=stop,
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
    batch_size: int | None = None,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> Learner:
    """Network and batches; pixel statistics (unless published) and class weights from the training rows alone.

    Published weights are filled in by `run_fit`. `batch_size` is one that was found before, by trying; `stop` is asked
    while one is looked for. Raises `InputError`, `Stopped`.
    """
    check_mirror(images.snapshot, mirror=experiment.answer.mirror)
    statistics = published_statistics(experiment.model) or measure(images.pixels, train)
    net, config = network_for(experiment, images, pictures, train, statistics=statistics, seed=seed), experiment.train
    weights = class_weights_for(config.loss, images.labels[train], num_classes=len(images.classes))
    weights = None if weights is None else weights.to(pictures.device)
    batches_of = partial(train_batches, experiment, images, pictures, train, seed=seed)
    tried = partial(fits_memory, net, optimizer=experiment.optimizer, config=config, class_weights=weights, ranks=ranks)

    def fits(size: int) -> bool:
        require_company(net, batch_size=size)
        heed(lambda: ranks.any(stop()), during="the search for a batch size")
        return tried(batches_of(batch_size=size))

    size = batch_size or choose_batch_size(config, num_pictures=len(train), device=pictures.device, fits=fits)
    require_company(net, batch_size=size)
    net = net if ranks.num == 1 else with_shared_norms(net)  # of which no rank could try anything alone
    at_once = answered_at_once(config, size, ranks=ranks)
    judge = judge_for(experiment, images, pictures, val, at_once=at_once, ranks=ranks)
    return Learner(net, batches_of(batch_size=size), statistics, judge, class_weights=weights)


def network_for(
    experiment: Experiment,
    images: Images,
    pictures: Pictures,
    train: np.ndarray,
    *,
    statistics: PixelStatistics,
    seed: int,
) -> nn.Module:
    """As training starts from it, on the device of the pictures. Raises `InputError`."""
    torch.manual_seed(seed)
    with network_fits():
        net = build(experiment.model, images.spec, statistics, len(images.classes))
        start_from(net.to(pictures.device), pictures, train, images.spec)
    return net


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
        balanced=experiment.train.sampling == "balanced",
    )


def run_fit(
    experiment: Experiment,
    learner: Learner,
    *,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
    on_rates: Callable[[RateTest], None] = ignore,
    stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> FitResult:
    """Raises as `fit`, and where the batch does not fit `InputError` with the size that would, or, where that was to be
    found by trying, `Short` with it."""
    train = partial(
        fit,
        learner.net,
        for_rank(learner.batches, experiment.train, ranks),
        learner.validate,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        config=experiment.train,
        class_weights=learner.class_weights,
        start=load_published,  # not before: a checkpoint has every weight, and the published file may be gone
        checkpoints=checkpoints,
        on_epoch=on_epoch,
        on_progress=on_progress,
        on_rates=on_rates,
        stop=stop,
        ranks=ranks,
    )
    attempt = one_step(learner.net, learner.batches.of_size, experiment)
    auto = experiment.train.batch_size == "auto"
    return within_memory(train, size=learner.batches.batch_size, attempt=attempt, fixed=ranks.num > 1, auto=auto)


def for_rank(batches: TrainBatches, config: TrainConfig, ranks: Ranks) -> TrainBatches:
    """Of each batch, it looks at what it sends through the network."""
    if ranks.num == 1:
        return batches
    return batches.shared(lambda num: ranks.places(num, parts_of(num, config)))
