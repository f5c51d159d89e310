"""Labels that look wrong are found by answers to pictures that were not trained on, named, and written down."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from data.prepare import Dataset
from data.spec import Part
from models.evaluation.labels import (
    Suspects,
    among,
    keep,
    lines,
    of_folds,
    of_the_run,
    suspects,
    together,
    told,
    undecided,
)
from models.records import CVResult, FoldResult
from models.run import RunFolder
from models.training.folds import HeldOut, answers_file, keep_folds
from tests.models.conftest import toy_dataset
from tests.models.test_report import run_result

CLASSES = 5


def planted(*, sureness: float, num: int = 1000, wrong: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers of a network that knows the true classes as well as `sureness` says, labels, and which are wrong.

    Its logit of the true class is `sureness` above the others on average, each with noise of standard deviation 1.
    """
    random = np.random.default_rng(0)
    true = np.arange(num) % CLASSES
    logits = random.normal(0, 1, (num, CLASSES)) + sureness * np.eye(CLASSES)[true]
    flipped = random.choice(num, wrong, replace=False)
    labels = true.copy()
    labels[flipped] = (true[flipped] + random.integers(1, CLASSES, wrong)) % CLASSES
    return softmax(logits, axis=1).astype(np.float32), labels, flipped


def test_of_a_network_that_is_never_wrong_all_wrong_labels_are_found_and_no_other():
    probabilities, labels, flipped = planted(sureness=9)
    positions, quality = suspects(probabilities, labels)
    assert set(positions) == set(flipped)
    np.testing.assert_allclose(quality, probabilities[positions, labels[positions]], rtol=1e-6)


def test_of_a_network_that_is_right_about_nine_times_in_ten_most_are_found_among_few_others():
    probabilities, labels, flipped = planted(sureness=2.7)
    right = probabilities.argmax(axis=1) == labels
    assert 0.85 < right.mean() < 0.93
    positions, _ = suspects(probabilities, labels)
    found = np.isin(flipped, positions)
    assert found.mean() >= 0.8
    assert len(positions) <= 4 * len(flipped)
    assert np.isin(positions[:15], flipped).mean() >= 0.6  # the least credible come first


def test_where_no_label_is_wrong_and_the_network_knows_it_nothing_is_found():
    probabilities, labels, _ = planted(sureness=9, wrong=0)
    assert len(suspects(probabilities, labels)[0]) == 0


@pytest.mark.parametrize("present", [[0], [1, 3]])
def test_classes_of_which_no_picture_was_looked_at_do_no_harm(present: list[int]):
    probabilities, labels, _ = planted(sureness=9, wrong=0)
    kept = np.isin(labels, present)
    assert len(suspects(probabilities[kept], labels[kept])[0]) == 0


@pytest.mark.filterwarnings("error")  # a terminal is no place for cleanlab's
def test_a_handful_of_pictures_does_no_harm():
    assert len(suspects(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), np.array([0, 1]))[0]) == 0
    assert len(suspects(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))[0]) == 0


def toy(wrong: int = 3) -> Dataset:
    """96 pictures, of which the first `wrong` of each part have the other class."""
    dataset = toy_dataset()
    labels = dataset.images.snapshot.labels.copy()
    for rows in (dataset.split.train, dataset.split.val, dataset.split.test):
        labels[rows[:wrong]] = 1 - labels[rows[:wrong]]
    return replace(dataset, images=replace(dataset.images, snapshot=replace(dataset.images.snapshot, labels=labels)))


def truth(rows: np.ndarray) -> np.ndarray:
    """(n, 2) answers to the toy's pictures: their true class, a little surer from row to row."""
    sure = 0.9 + rows / 1000
    return np.where(np.eye(2)[rows % 2] == 1, sure[:, None], 1 - sure[:, None]).astype(np.float32)


def test_what_is_found_has_the_names_by_which_a_person_and_a_machine_find_it_again():
    dataset = toy()
    rows = dataset.split.test
    found = among(dataset, rows, truth(rows))
    assert found.rows == (74, 73, 72)  # the surer the contradiction, the earlier
    assert found.file == ("74.png", "73.png", "72.png")
    assert found.sha256 == tuple(f"{row:064x}" for row in found.rows)
    assert found.part == (Part.TEST,) * 3
    assert found.given == ("bright", "dark", "bright")
    assert found.likelier == ("dark", "bright", "dark")
    assert found.quality == (0.026, 0.027, 0.028)
    assert (found.looked_at, found.left_out) == (24, 0)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A finished run of two folds on the toy's pictures, whose networks are always right."""
    dataset, folder = toy(), RunFolder(tmp_path)
    folds = tuple(FoldResult(fold=k, accuracy=0.9, n=36, epochs_run=1, seconds=1.0) for k in range(2))
    shares = [dataset.split.development[k::2] for k in range(2)]
    answers = {k: HeldOut(rows, np.log(truth(rows))) for k, rows in enumerate(shares)}
    keep_folds(folder, folds, answers, pytest.fail)
    val, test = dataset.split.val, dataset.split.test
    folder.write_predictions(
        {
            "val_logits": np.log(truth(val)),
            "val_rows": val,
            "test_probabilities": truth(test),
            "test_rows": test,
        }
    )
    folder.write_result(run_result().model_copy(update={"crossval": CVResult(folds=folds, mean=0.9, std=0.0)}))
    return folder


def test_folds_look_at_all_pictures_but_the_test_pictures(run: RunFolder):
    found = of_folds(run, toy())
    assert sorted(found.rows) == [0, 1, 2, 48, 49, 50]
    assert told(found) == "6 of 72 labels look wrong"


def test_pictures_of_a_fold_that_was_not_kept_are_left_out_and_that_is_told(run: RunFolder):
    answers_file(run, 0).unlink()
    found = of_folds(run, toy())
    assert (found.looked_at, found.left_out) == (36, 36)
    assert "these are 50 % of the pictures" in told(found)
    assert of_the_run(run, toy()).left_out == 36


def test_the_final_model_adds_the_test_pictures_to_what_folds_found(run: RunFolder):
    found = of_the_run(run, toy())
    assert sorted(found.rows) == [0, 1, 2, 48, 49, 50, 72, 73, 74]
    assert list(found.quality) == sorted(found.quality)
    assert dict(zip(found.rows, found.part, strict=True))[72] == Part.TEST
    assert (found.looked_at, found.left_out) == (96, 0)
    assert told(found) == "9 of 96 labels look wrong"


def test_without_folds_it_looks_at_validation_and_test_pictures_and_says_how_all_are_looked_at(run: RunFolder):
    run.write_result(run.result().model_copy(update={"crossval": None}))
    found = of_the_run(run, toy())
    assert sorted(found.rows) == [48, 49, 50, 72, 73, 74]
    assert told(found) == (
        "6 of 48 labels look wrong; these are 50 % of the pictures, and crossval.folds 3 looks at all that are "
        "trained on"
    )


@pytest.mark.parametrize(
    ("num", "words"), [(0, "none of 1,000 labels looks wrong"), (1, "1 of 1,000 labels looks wrong")]
)
def test_none_and_one_are_told_as_a_person_would(num: int, words: str):
    columns = dict.fromkeys(("sha256", "file", "given", "likelier"), ("x",) * num)
    found = Suspects(
        rows=(0,) * num, part=(Part.VAL,) * num, quality=(0.1,) * num, looked_at=1000, right=990, left_out=0, **columns
    )
    assert told(found) == words


def test_what_a_weak_network_names_is_told_with_how_weak_it_is():
    dataset = toy()
    found = among(dataset, dataset.split.test, truth(dataset.split.test))
    assert found.right == found.looked_at - len(found.rows)
    weak = found.model_copy(update={"right": found.looked_at // 2})
    assert told(weak).startswith(told(found).partition(";")[0])
    assert "to a network that is right about 50 %; many will be its own mistakes, so begin with the first" in told(weak)


def test_the_list_is_written_so_that_any_name_comes_back(run: RunFolder):
    dataset = toy()
    strange = 'a,b "c"\nd/72.png'
    files = tuple(strange if row == 72 else file for row, file in enumerate(dataset.images.snapshot.files))
    dataset = replace(dataset, images=replace(dataset.images, snapshot=replace(dataset.images.snapshot, files=files)))
    file = keep(among(dataset, dataset.split.test, truth(dataset.split.test)), run)
    assert file == run.path / "labels.csv"
    with file.open(newline="") as opened:
        lines = list(csv.DictReader(opened))
    assert len(lines) == 3
    assert lines[-1] == {
        "sha256": f"{72:064x}",
        "file": strange,
        "part": "test",
        "given": "bright",
        "likelier": "dark",
        "quality": "0.028",
    }


def test_two_searches_are_one_list():
    dataset = toy()
    parts = [among(dataset, rows, truth(rows)) for rows in (dataset.split.val, dataset.split.test)]
    both = together(*parts)
    assert both.rows == (74, 73, 72, 50, 49, 48)


def test_of_what_a_person_has_decided_no_more_is_said():
    dataset = toy()
    found = among(dataset, dataset.split.test, truth(dataset.split.test))
    left = undecided(found, {f"{73:064x}"})
    assert (left.rows, left.file, left.quality) == ((74, 72), ("74.png", "72.png"), (0.026, 0.028))
    assert left.looked_at == found.looked_at


def test_what_looks_wrong_is_listed_for_a_decision_with_the_likelier_class():
    dataset = toy()
    rows = np.concatenate([dataset.split.val, dataset.split.test])
    listed = {one.digest: one for one in lines(among(dataset, rows, truth(rows)))}
    validation, test = listed[f"{50:064x}"], listed[f"{74:064x}"]
    assert (validation.rule, validation.advice) == ("labels", "label=dark, or keep")
    assert (test.score, test.advice) == (0.026, "label=dark, or keep; a test picture: look twice")
