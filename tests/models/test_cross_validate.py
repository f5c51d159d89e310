from statistics import mean, stdev

import numpy as np
import pytest

from data.loader import Pictures
from data.prepare import Dataset
from data.split import folds
from models.config import CrossvalConfig, Experiment
from models.training.cross_validate import cross_validate, fold_seed, one_fold


@pytest.fixture
def three_folds(tiny: Experiment) -> Experiment:
    return Experiment.model_validate(tiny.model_dump() | {"crossval": CrossvalConfig(folds=3)})


def test_every_fold_is_trained_and_the_spread_is_told(three_folds: Experiment, toy: Dataset):
    told = []
    result = cross_validate(three_folds, toy, on_fold=told.append)
    accuracies = [fold.accuracy for fold in result.folds]
    assert [fold.fold for fold in result.folds] == [0, 1, 2]
    assert tuple(told) == result.folds
    assert sum(fold.n for fold in result.folds) == len(toy.split.development)
    assert result.mean == pytest.approx(mean(accuracies))
    assert result.std == pytest.approx(stdev(accuracies))


def test_a_fold_alone_is_the_fold_among_others(three_folds: Experiment, toy: Dataset):
    alone = one_fold(three_folds, toy, 1)
    among = cross_validate(three_folds, toy).folds[1]
    assert alone.model_copy(update={"seconds": 0.0}) == among.model_copy(update={"seconds": 0.0})


def test_the_pictures_are_placed_on_the_device_once_for_all_folds(
    three_folds: Experiment, toy: Dataset, monkeypatch: pytest.MonkeyPatch
):
    """And decoded no more at all: the files of this data set do not exist."""
    placed = []
    place = Pictures.__init__

    def counted(self: Pictures, *given: object, **named: object) -> None:
        placed.append(self)
        place(self, *given, **named)

    monkeypatch.setattr(Pictures, "__init__", counted)
    assert len(cross_validate(three_folds, toy).folds) == 3
    assert len(placed) == 1


def test_the_test_rows_decide_nothing(three_folds: Experiment, toy: Dataset):
    before = one_fold(three_folds, toy, 0)
    toy.images.pixels[toy.split.test] = 0
    assert one_fold(three_folds, toy, 0).accuracy == before.accuracy
    parts = folds(toy.images, toy.split.development, k=3, seed=0)
    assert not np.isin(np.concatenate([part.val for part in parts]), toy.split.test).any()


def test_the_seeds_of_folds_differ():
    assert len({fold_seed(seed, index) for seed in (0, 1) for index in range(5)}) == 10
