"""Optuna's journal and its choice of trials, without any training."""

from pathlib import Path

import pytest

from flows.sweep.plots import importance, parallel
from flows.sweep.result import SweepResult, TrialResult
from flows.sweep.search import parsed
from flows.sweep.study import JOURNAL, Study
from flows.sweep.trial import folder_of, made
from models.config import Experiment, TrainConfig

SPACE = parsed({"lr": "1e-4..1e-1:log", "model.kind": "cnn,vit", "heads": "2,4"}, Experiment())


def opened(folder: Path, *, prune: bool = True) -> Study:
    return Study(folder, SPACE, seed=3, larger_is_better=True, prune=prune)


def told(study: Study, count: int) -> list[dict[str, str]]:
    """Trials that end with a figure of their rate."""
    found = []
    for _ in range(count):
        number, picked = study.begin(Experiment())
        study.completed(number, float(picked["optimizer.lr"]))
        found.append(picked)
    return found


@pytest.mark.slow
def test_a_study_that_is_gone_on_with_tries_what_it_would_have_tried(tmp_path: Path):
    undisturbed = told(opened(tmp_path / "one"), 14)
    parts = told(opened(tmp_path / "two"), 3) + told(opened(tmp_path / "two"), 11)
    assert parts == undisturbed
    assert len({picked["optimizer.lr"] for picked in undisturbed}) == 14
    assert all(("model.heads" in picked) == (picked["model.kind"] == "vit") for picked in undisturbed)


def test_a_kill_leaves_a_journal_that_opens_at_once(tmp_path: Path):
    told(opened(tmp_path / "sweep"), 2)
    journal = tmp_path / "sweep" / JOURNAL
    journal.with_name(f"{JOURNAL}.lock").touch()
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    again = opened(tmp_path / "sweep")
    told(again, 1)
    assert len(again.trials()) == len(opened(tmp_path / "sweep").trials()) == 3


def test_trials_that_were_under_way_are_under_way_again(tmp_path: Path):
    study = opened(tmp_path / "sweep")
    told(study, 1)
    number, picked = study.begin(Experiment())
    study.saw(number, {0: 0.5})
    again = opened(tmp_path / "sweep")
    assert again.under_way() == {number: picked}
    assert not again.saw(number, {0: 0.5, 1: 0.6})
    again.completed(number, 0.6)
    best = again.best()
    assert best is not None
    assert (best.number, best.value, best.intermediate_values) == (number, 0.6, {0: 0.5, 1: 0.6})
    assert not opened(tmp_path / "sweep").under_way()


@pytest.mark.slow
def test_a_trial_below_the_median_of_those_before_it_is_given_up_after_some_epochs(tmp_path: Path):
    study = opened(tmp_path / "sweep")
    for value in (0.7, 0.8, 0.9, 0.8):
        number, _ = study.begin(Experiment())
        assert not study.saw(number, dict.fromkeys(range(5), value))
        study.completed(number, value)
    number, _ = study.begin(Experiment())
    assert not study.saw(number, {0: 0.1, 1: 0.1})
    assert study.saw(number, {0: 0.1, 1: 0.1, 2: 0.1})
    study.pruned(number)
    another, _ = study.begin(Experiment())
    assert not study.saw(another, dict.fromkeys(range(5), 0.95))


@pytest.mark.slow
def test_nothing_is_given_up_where_that_is_not_wanted(tmp_path: Path):
    study = opened(tmp_path / "sweep", prune=False)
    told(study, 5)
    number, _ = study.begin(Experiment())
    assert not study.saw(number, dict.fromkeys(range(9), 0.0))


@pytest.mark.slow
def test_what_matters_is_told_and_drawn(tmp_path: Path):
    study = opened(tmp_path / "sweep")
    assert study.importances() == {}
    picked = told(study, 12)
    shares = study.importances()
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=lambda path: shares[path]) == "optimizer.lr"
    trials = tuple(
        TrialResult(number=number + 1, state="complete", value=float(one["optimizer.lr"]), settings=one, epochs=1)
        for number, one in enumerate(picked)
    )
    result = SweepResult(name="s", monitor="val_accuracy", trials=trials, best=trials[0], command=None)
    assert importance(shares).startswith(b"\x89PNG")
    assert parallel(result, SPACE).startswith(b"\x89PNG")


def test_a_trial_goes_on_in_its_folder_and_never_in_what_another_one_left_there(tmp_path: Path):
    """As where the journal was deleted and the trials were not."""
    run = made(folder_of(tmp_path, "night-0a1b2c", 0), Experiment(), "f" * 64)
    (run.path / "fit.json").write_text("{}")
    assert made(run, Experiment(), "f" * 64).learned
    other = Experiment(train=TrainConfig(seed=7))
    assert not made(run, other, "f" * 64).learned
    assert run.experiment() == other
