"""Stratified k-fold cross-validation: the same `fit`, k times, on the development rows; never on the test rows."""

from collections.abc import Callable

import numpy as np

from data.loader import Pictures
from data.prepare import Dataset
from data.split import folds
from models.config import Experiment
from models.device import choose_device
from models.records import CVResult, FoldResult
from models.training.fit import ignore
from models.training.learn import learner_for, run_fit

FOLD = 4  # which random numbers; order, changes and dropout are 1 to 3


def cross_validate(
    experiment: Experiment, dataset: Dataset, *, on_fold: Callable[[FoldResult], None] = ignore
) -> CVResult:
    """One fold after another; the pictures are placed on the device once."""
    pictures = Pictures(dataset.images.pixels, choose_device(experiment.train.devices))
    results = []
    for index in range(experiment.crossval.folds):
        result = one_fold(experiment, dataset, index, pictures=pictures)
        results.append(result)
        on_fold(result)
    return summarise(results)


def one_fold(
    experiment: Experiment, dataset: Dataset, fold_index: int, *, pictures: Pictures | None = None
) -> FoldResult:
    """A function of its arguments alone, so that folds may run anywhere and in any order.

    The epoch is chosen on the rows that are then reported, as with the final model's validation figures: compare it
    with those, and trust the test figures.
    """
    images, seed = dataset.images, experiment.train.seed
    fold = folds(images, dataset.split.development, k=experiment.crossval.folds, seed=seed)[fold_index]
    if pictures is None:
        pictures = Pictures(images.pixels, choose_device(experiment.train.devices))
    learner = learner_for(
        experiment, images, pictures, train=fold.train, val=fold.val, seed=fold_seed(seed, fold_index)
    )
    result = run_fit(experiment, learner)
    return FoldResult(
        fold=fold_index,
        accuracy=result.history[result.summary.best_epoch].val_accuracy,
        n=len(fold.val),
        epochs_run=result.summary.epochs_run,
        seconds=result.summary.seconds,
    )


def fold_seed(seed: int, fold_index: int) -> int:
    """Folds differ in their random numbers too, or their spread would leave out that of the training."""
    return int(np.random.SeedSequence([seed, fold_index, FOLD]).generate_state(1)[0])


def summarise(results: list[FoldResult]) -> CVResult:
    """At least two folds."""
    accuracies = [result.accuracy for result in results]
    return CVResult(folds=tuple(results), mean=float(np.mean(accuracies)), std=float(np.std(accuracies, ddof=1)))
