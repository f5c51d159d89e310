import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import torch

from data.loader import Pictures
from data.prepare import Dataset
from data.spec import AugmentConfig
from data.split import folds
from models.config import AnswerConfig, CrossvalConfig, Experiment
from models.records import CVResult, FoldResult
from models.run import RunFolder
from models.training import fit
from models.training.cross_validate import cross_validate, fold_seed, one_fold
from models.training.folds import HeldOut, answers_file, ended_folds, fold_folder, held_out, keep_folds, summarise
from models.training.pulse import Stopped
from models.zoo.config_classic import SoftmaxConfig
from tests.models.conftest import toy_dataset

ANSWERS = HeldOut(np.arange(3), np.eye(3, dtype=np.float32))


@pytest.fixture(scope="module")
def three_folds(tiny: Experiment) -> Experiment:
    return Experiment.model_validate(tiny.model_dump() | {"crossval": CrossvalConfig(folds=3)})


@pytest.fixture(scope="module")
def told() -> list[FoldResult]:
    """Of each fold of `result`, when it had ended."""
    return []


@pytest.fixture(scope="module")
def result(three_folds: Experiment, told: list[FoldResult]) -> CVResult:
    return cross_validate(three_folds, toy_dataset(), on_fold=told.append)


@pytest.fixture(scope="module")
def undisturbed(three_folds: Experiment, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("undisturbed"))
    cross_validate(three_folds, toy_dataset(), folder)
    return folder


def answers_equal(one: HeldOut, other: HeldOut) -> bool:
    return np.array_equal(one.rows, other.rows) and np.array_equal(one.logits, other.logits)


def test_every_fold_is_trained_and_the_spread_is_told(result: CVResult, told: list[FoldResult], toy: Dataset):
    accuracies = [fold.accuracy for fold in result.folds]
    assert [fold.fold for fold in result.folds] == [0, 1, 2]
    assert tuple(told) == result.folds
    assert sum(fold.n for fold in result.folds) == len(toy.split.development)
    assert result.mean == pytest.approx(mean(accuracies))
    assert result.std == pytest.approx(stdev(accuracies))


@pytest.mark.slow
def test_a_fold_alone_is_the_fold_among_others(three_folds: Experiment, result: CVResult, toy: Dataset):
    alone, _ = one_fold(three_folds, toy, 1)
    assert alone.model_copy(update={"seconds": 0.0}) == result.folds[1].model_copy(update={"seconds": 0.0})


@pytest.mark.slow
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


@pytest.mark.slow
def test_folds_that_have_ended_are_kept_and_a_run_that_was_stopped_goes_on_with_the_next(
    three_folds: Experiment, result: CVResult, undisturbed: RunFolder, toy: Dataset, tmp_path: Path
):
    folder, told = RunFolder(tmp_path), []
    with pytest.raises(Stopped, match="after step 1 of "):
        cross_validate(three_folds, toy, folder, on_fold=told.append, stop=lambda: len(told) == 1)
    assert ended_folds(folder) == tuple(told)
    assert fold_folder(folder, 1).checkpoint.exists()
    resumed = cross_validate(three_folds, toy, folder, on_fold=told.append)
    assert [fold.fold for fold in told] == [0, 1, 2]
    assert without_times(resumed) == without_times(result)
    assert cross_validate(three_folds, toy, folder, on_fold=told.append) == resumed
    assert len(told) == 3
    assert sorted(file.name for file in (tmp_path / "folds").iterdir()) == [
        f"{fold}.{kind}" for fold in range(3) for kind in ("json", "npz")
    ]
    assert answers_equal(held_out(folder), held_out(undisturbed))


@pytest.mark.slow
def test_a_fold_that_was_stopped_goes_on_from_its_checkpoint(three_folds: Experiment, toy: Dataset, tmp_path: Path):
    left, steps = RunFolder(tmp_path / "fold"), []
    with pytest.raises(Stopped, match="after step 5 of "):
        one_fold(three_folds, toy, 1, folder=left, stop=lambda: bool(steps.append(0)) or len(steps) == 5)
    del steps[:]
    resumed, _ = one_fold(three_folds, toy, 1, folder=left, stop=lambda: bool(steps.append(0)))
    undisturbed: list[int] = []
    whole, _ = one_fold(three_folds, toy, 1, stop=lambda: bool(undisturbed.append(0)))
    assert len(steps) == len(undisturbed) - 5
    assert resumed.model_copy(update={"seconds": 0.0}) == whole.model_copy(update={"seconds": 0.0})


@pytest.mark.slow
def test_the_answers_kept_are_those_of_the_fold_that_was_not_trained_on_the_picture(
    three_folds: Experiment, result: CVResult, undisturbed: RunFolder, toy: Dataset
):
    kept, labels = held_out(undisturbed), toy.images.labels
    parts = folds(toy.images, toy.split.development, k=3, seed=three_folds.train.seed)
    np.testing.assert_array_equal(kept.rows, np.concatenate([part.val for part in parts]))
    assert kept.logits.shape == (len(toy.split.development), 2)
    right = kept.logits.argmax(axis=1) == labels[kept.rows]
    shares = [right[np.isin(kept.rows, part.val)].mean() for part in parts]
    assert shares == [fold.accuracy for fold in result.folds]


def test_what_is_nearly_the_same_is_held_out_together(three_folds: Experiment, toy: Dataset):
    parts = folds(toy.images, toy.split.development, k=3, seed=three_folds.train.seed)
    pair = [int(parts[0].val[0]), int(parts[1].val[0])]
    near = replace(toy, alike=[pair])
    held = [set(pair) & set(one_fold(three_folds, near, index)[1].rows.tolist()) for index in range(2)]
    assert sorted(map(len, held)) in ([0, 0], [0, 2])


def test_folds_may_end_in_any_order(tmp_path: Path):
    results = [FoldResult(fold=k, accuracy=0.5 + k / 10, n=10, epochs_run=2, seconds=1.0) for k in range(4)]
    keep_folds(RunFolder(tmp_path), [results[3], results[1]], {1: ANSWERS, 3: ANSWERS}, pytest.fail)
    assert ended_folds(RunFolder(tmp_path)) == (results[1], results[3])
    assert summarise(reversed(results)).folds == tuple(results)


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["lost", "torn"])
def test_a_fold_without_its_answers_is_trained_again(
    three_folds: Experiment, undisturbed: RunFolder, toy: Dataset, tmp_path: Path, harm: str
):
    folder, told = RunFolder(tmp_path / "run"), []
    shutil.copytree(undisturbed.path, folder.path)
    file = answers_file(folder, 1)
    if harm == "lost":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-30])
    cross_validate(three_folds, toy, folder, on_fold=told.append)
    assert [fold.fold for fold in told] == [1]
    assert answers_equal(held_out(folder), held_out(undisturbed))


def test_answers_that_would_run_code_are_refused(result: CVResult, tmp_path: Path):
    folder = RunFolder(tmp_path)
    keep_folds(folder, result.folds[:1], {0: ANSWERS}, pytest.fail)
    np.savez(answers_file(folder, 0), rows=ANSWERS.rows, logits=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        held_out(folder)


def test_a_fold_that_a_full_disk_keeps_out_is_written_with_the_next(result: CVResult, tmp_path: Path):
    said: list[str] = []
    done, answers = result.folds[:2], {0: ANSWERS, 1: ANSWERS}
    tmp_path.joinpath("run").touch()  # a file where the folder should be: nothing can be written in it
    keep_folds(RunFolder(tmp_path / "run"), done[:1], answers, said.append)
    assert said[0].startswith("fold 1 could not be written down in ")
    tmp_path.joinpath("run").unlink()
    keep_folds(RunFolder(tmp_path / "run"), done, answers, said.append)
    assert len(said) == 1
    assert ended_folds(RunFolder(tmp_path / "run")) == done


def test_a_fold_whose_answers_nobody_has_any_more_keeps_its_checkpoint(result: CVResult, tmp_path: Path):
    """As where the disk was full for the process that trained it: whoever waited for it knows the figures alone."""
    folder = RunFolder(tmp_path)
    fold_folder(folder, 0).checkpoint.mkdir(parents=True)
    keep_folds(folder, result.folds[:1], {}, pytest.fail)
    assert fold_folder(folder, 0).checkpoint.exists()
    assert ended_folds(folder) == ()


def test_minutes_bound_each_fold_as_they_bound_a_training(three_folds: Experiment, result: CVResult, toy: Dataset):
    train = three_folds.train.model_copy(update={"max_minutes": 1e-6})
    assert result.folds[0].epochs_run == 3
    assert one_fold(three_folds.model_copy(update={"train": train}), toy, 0)[0].epochs_run == 1


def test_a_fold_is_judged_by_mirrored_answers_where_the_network_will_give_them(three_folds: Experiment, toy: Dataset):
    """The class is the side that is bright, so that a picture and its mirror image together say nothing."""
    toy.images.pixels[:] = 40
    for row, label in enumerate(toy.images.labels):
        toy.images.pixels[row, :, 8 * label : 8 * label + 8] = 200
    chosen = three_folds.model_copy(update={"model": SoftmaxConfig(), "augment": AugmentConfig(flip=False)})
    assert one_fold(chosen, toy, 0)[0].accuracy == 1.0
    mirrored = chosen.model_copy(update={"answer": AnswerConfig(mirror=True)})
    assert one_fold(mirrored, toy, 0)[0].accuracy < 0.7


@pytest.mark.slow
def test_a_fold_whose_memory_runs_short_goes_on_with_half_where_the_batch_size_was_left_open(
    three_folds: Experiment, toy: Dataset
):
    train, said, asked = three_folds.train.model_copy(update={"batch_size": "auto"}), [], []

    def crowded() -> bool:
        asked.append(None)
        if len(asked) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return False

    chosen = three_folds.model_copy(update={"train": train})
    assert one_fold(chosen, toy, 1, on_trouble=said.append, stop=crowded)[0].epochs_run == 3
    assert said == ["fold 2: memory ran short with batches of 48 pictures; training begins again with 24"]


def without_times(all_folds: CVResult) -> CVResult:
    timeless = tuple(fold.model_copy(update={"seconds": 0.0}) for fold in all_folds.folds)
    return all_folds.model_copy(update={"folds": timeless})


@pytest.mark.slow
def test_the_test_rows_decide_nothing(three_folds: Experiment, result: CVResult, toy: Dataset):
    toy.images.pixels[toy.split.test] = 0
    assert one_fold(three_folds, toy, 0)[0].accuracy == result.folds[0].accuracy
    parts = folds(toy.images, toy.split.development, k=3, seed=0)
    assert not np.isin(np.concatenate([part.val for part in parts]), toy.split.test).any()


def test_the_seeds_of_folds_differ():
    assert len({fold_seed(seed, index) for seed in (0, 1) for index in range(5)}) == 10


def test_dropout_of_each_fold_draws_its_own_random_numbers(
    three_folds: Experiment, toy: Dataset, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[set[int]] = []
    monkeypatch.setattr(fit, "dropout_seed", lambda seed, *_, **__: drawn[-1].add(seed) or 1)
    for index in range(2):
        drawn.append(set())
        one_fold(three_folds, toy, index)
    assert len(drawn[0]) == len(drawn[1]) == 1
    assert drawn[0] != drawn[1]
