"""Stratified k-fold cross-validation: the same `fit`, k times, on the development rows; never on the test rows."""

from collections.abc import Callable
from functools import partial

import numpy as np

from data.loader import Pictures
from data.prepare import Dataset
from data.split import folds
from models.config import Experiment
from models.device import training_device
from models.mirror import Mirrored
from models.records import CVResult, FoldResult
from models.run import RunFolder
from models.training.fit import ignore
from models.training.folds import ended_folds, keep_folds
from models.training.learn import Learner, learner_for, run_fit
from models.training.memory import Short, until_it_fits
from models.training.pulse import never
from models.training.state import FitResult

FOLD = 4  # which random numbers; order, changes and dropout are 1 to 3


def cross_validate(
    experiment: Experiment,
    dataset: Dataset,
    folder: RunFolder | None = None,
    *,
    on_fold: Callable[[FoldResult], None] = ignore,
    on_trouble: Callable[[str], None] = ignore,
    stop: Callable[[], bool] = never,
) -> CVResult:
    """One fold after another; the pictures are placed on the device once.

    With `folder`, of this experiment and these pictures, every fold that has ended is kept there and not trained again:
    a run that was killed or stopped goes on with the first that has not, `on_fold` hears of those that are trained now.
    Raises `InputError`, `Diverged`, `Stopped`.
    """
    results = [] if folder is None else list(ended_folds(folder))
    if len(results) == experiment.crossval.folds:
        return summarise(results)
    pictures = Pictures(dataset.images.pixels, training_device(experiment.train.devices))
    for index in range(len(results), experiment.crossval.folds):
        results.append(one_fold(experiment, dataset, index, pictures=pictures, on_trouble=on_trouble, stop=stop))
        if folder is not None:
            keep_folds(folder, results, on_trouble)
        on_fold(results[-1])
    return summarise(results)


def one_fold(
    experiment: Experiment,
    dataset: Dataset,
    fold_index: int,
    *,
    pictures: Pictures | None = None,
    on_trouble: Callable[[str], None] = ignore,
    stop: Callable[[], bool] = never,
) -> FoldResult:
    """A function of its arguments alone, so that folds may run anywhere and in any order.

    The epoch is chosen on the rows that are then reported, as with the final model's validation figures: compare it
    with those, and trust the test figures.
    """
    images, seed = dataset.images, experiment.train.seed
    fold = folds(images, dataset.split.development, k=experiment.crossval.folds, seed=seed)[fold_index]
    placed = pictures or Pictures(images.pixels, training_device(experiment.train.devices))
    learner_with = partial(learner_for, experiment, images, placed, train=fold.train, val=fold.val)

    def train(size: int | None) -> tuple[Learner, FitResult]:
        learner = learner_with(seed=fold_seed(seed, fold_index), batch_size=size, stop=stop)
        return learner, run_fit(experiment, learner, stop=stop)

    def again(short: Short) -> None:
        on_trouble(f"fold {fold_index + 1}: {short}")

    learner, result = until_it_fits(train, size=None, on_short=again)
    return FoldResult(
        fold=fold_index,
        accuracy=accuracy_of(experiment, learner, result),
        n=len(fold.val),
        epochs_run=result.summary.epochs_run,
        seconds=result.summary.seconds,
    )


def accuracy_of(experiment: Experiment, learner: Learner, result: FitResult) -> float:
    """Of the best weights, as the trained network will answer: mirrored where `answer.mirror` says so."""
    if not experiment.answer.mirror:
        return result.history[result.summary.best_epoch].val_accuracy
    learner.net.load_state_dict(result.weights)
    return learner.validate(Mirrored(learner.net)).accuracy


def fold_seed(seed: int, fold_index: int) -> int:
    """Folds differ in their random numbers too, or their spread would leave out that of the training."""
    return int(np.random.SeedSequence([seed, fold_index, FOLD]).generate_state(1)[0])


def summarise(results: list[FoldResult]) -> CVResult:
    """At least two folds."""
    accuracies = [result.accuracy for result in results]
    return CVResult(folds=tuple(results), mean=float(np.mean(accuracies)), std=float(np.std(accuracies, ddof=1)))
