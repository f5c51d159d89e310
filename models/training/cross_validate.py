"""Stratified k-fold cross-validation: the same `fit`, k times, on the development rows; never on the test rows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from data.images import Images
from data.loader import Pictures
from data.prepare import Dataset
from data.split import folds
from models.config import Experiment
from models.device import training_device
from models.mirror import Mirrored
from models.records import CVResult, FoldResult
from models.room import must_be_written
from models.run import RunFolder
from models.training.checkpoint import Checkpoints
from models.training.fit import ignore
from models.training.folds import HeldOut, ended_folds, fold_folder, keep_folds, summarise
from models.training.judging import answered_at_once, logits
from models.training.learn import Learner, learner_for, run_fit
from models.training.memory import Short, until_it_fits
from models.training.pulse import ProgressUpdate, never
from models.training.state import FitResult

FOLD = 4  # which random numbers; order, changes and dropout are 1 to 3


def cross_validate(
    experiment: Experiment,
    dataset: Dataset,
    folder: RunFolder | None = None,
    *,
    on_fold: Callable[[FoldResult], None] = ignore,
    on_progress: Callable[[int, ProgressUpdate], None] = lambda *_: None,
    on_trouble: Callable[[str], None] = ignore,
    stop: Callable[[], bool] = never,
) -> CVResult:
    """One fold after another; the pictures are placed on the device once.

    With `folder`, of this experiment and these pictures, every fold that has ended is kept there and not trained again:
    a run that was killed or stopped goes on with those that have not, within a fold from its checkpoint, and `on_fold`
    hears of those that are trained now. `on_progress` hears of the fold, from 0, and how far it is.
    Raises `InputError`, `Diverged`, `Stopped`.
    """
    ended = {} if folder is None else {result.fold: result for result in ended_folds(folder)}
    missing = [index for index in range(experiment.crossval.folds) if index not in ended]
    pictures = Pictures(dataset.images.pixels, training_device(experiment.train.devices)) if missing else None
    answers: dict[int, HeldOut] = {}
    for index in missing:
        ended[index], answers[index] = one_fold(
            experiment,
            dataset,
            index,
            pictures=pictures,
            folder=None if folder is None else fold_folder(folder, index),
            on_progress=partial(on_progress, index),
            on_trouble=on_trouble,
            stop=stop,
        )
        if folder is not None:
            keep_folds(folder, list(ended.values()), answers, on_trouble)
        on_fold(ended[index])
    return summarise(ended.values())


def one_fold(
    experiment: Experiment,
    dataset: Dataset,
    fold_index: int,
    *,
    pictures: Pictures | None = None,
    folder: RunFolder | None = None,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
    on_trouble: Callable[[str], None] = ignore,
    stop: Callable[[], bool] = never,
) -> tuple[FoldResult, HeldOut]:
    """The figures, and the answers they come from. A function of its arguments alone, so that folds may run anywhere
    and in any order.

    The epoch is chosen on the rows that are then reported, as with the final model's validation figures: compare it
    with those, and trust the test figures. `folder` is the fold's own, to go on from where another process ended.
    """
    images, rows, seed = dataset.images, dataset.split.development, experiment.train.seed
    grouped, k = experiment.dataset.split_by != "content", experiment.crossval.folds
    fold = folds(images, rows, k=k, seed=seed, by_group=grouped, alike=dataset.alike)[fold_index]
    placed = pictures or Pictures(images.pixels, training_device(experiment.train.devices))
    learner_with = partial(learner_for, experiment, images, placed, train=fold.train, val=fold.val)
    left = Left(experiment, folder, fold_index, on_trouble)
    seeded = of_fold(experiment, fold_index)

    def train(size: int | None) -> tuple[Learner, FitResult]:
        learner = learner_with(seed=seeded.train.seed, batch_size=size, stop=stop)
        left.chosen(learner.batches.batch_size)
        return learner, run_fit(seeded, learner, checkpoints=left.checkpoints, on_progress=on_progress, stop=stop)

    learner, result = until_it_fits(train, size=left.batch_size(), on_short=left.begin_again)
    answers = answers_of(experiment, images, placed, fold.val, learner, result)
    figures = FoldResult(
        fold=fold_index,
        accuracy=float(np.mean(answers.logits.argmax(axis=1) == images.labels[fold.val])),
        n=len(fold.val),
        epochs_run=result.summary.epochs_run,
        seconds=result.summary.seconds,
    )
    return figures, answers


@dataclass(frozen=True)
class Left:
    """What a fold leaves in its folder while it trains, if it has one, and another process goes on from."""

    experiment: Experiment
    folder: RunFolder | None
    fold: int
    on_trouble: Callable[[str], None]

    @property
    def checkpoints(self) -> Checkpoints | None:
        if self.folder is None:
            return None
        every = self.experiment.train.checkpoint_every
        return Checkpoints(self.folder.checkpoint, every_steps=every, on_trouble=self.on_trouble)

    def batch_size(self) -> int | None:
        return None if self.folder is None else self.folder.batch_size()

    def chosen(self, size: int) -> None:
        """Where that was left open another trial may choose another, and the checkpoint would not fit."""
        if self.folder is not None and self.experiment.train.batch_size == "auto":
            with must_be_written(self.folder.path):
                self.folder.write_batch_size(size)

    def begin_again(self, short: Short) -> None:
        """The checkpoints go first, or a kill in between would leave some of other batches."""
        if self.checkpoints is not None:
            self.checkpoints.clear()
        self.chosen(short.fits)
        self.on_trouble(f"fold {self.fold + 1}: {short}")


def answers_of(
    experiment: Experiment, images: Images, pictures: Pictures, rows: np.ndarray, learner: Learner, result: FitResult
) -> HeldOut:
    """Of the best weights, as the trained network will answer: mirrored where `answer.mirror` says so."""
    learner.net.load_state_dict(result.weights)
    net = Mirrored(learner.net) if experiment.answer.mirror else learner.net
    at_once = answered_at_once(experiment.train, learner.batches.batch_size)
    return HeldOut(rows, logits(net, pictures, images, rows, at_once=at_once))


def of_fold(experiment: Experiment, fold_index: int) -> Experiment:
    """With the fold's own random numbers, those of dropout among them."""
    seed = fold_seed(experiment.train.seed, fold_index)
    return experiment.model_copy(update={"train": experiment.train.model_copy(update={"seed": seed})})


def fold_seed(seed: int, fold_index: int) -> int:
    """Folds differ in their random numbers too, or their spread would leave out that of the training."""
    return int(np.random.SeedSequence([seed, fold_index, FOLD]).generate_state(1)[0])
