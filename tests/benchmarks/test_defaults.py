"""The table of defaults: every setting is one the product knows, a trial is judged on pictures it never saw."""

from pathlib import Path

import pytest

from benchmarks import defaults, render_defaults
from data.prepare import prepare
from data.spec import DatasetSpec


@pytest.mark.parametrize("case", defaults.CASES)
def test_every_setting_is_one_the_product_knows_and_changes_something(case: str):
    source, epochs, settings = defaults.CASES[case]
    plain = defaults.experiment(source, {}, epochs=epochs, seed=0)
    made = {name: defaults.experiment(source, changes, epochs=epochs, seed=0) for name, changes in settings.items()}
    assert made.pop("default") == plain
    assert all(chosen != plain for chosen in made.values())


@pytest.mark.slow
def test_a_trial_trains_all_its_epochs_and_is_judged_on_a_fifth_of_the_development_rows(tmp_path: Path):
    dataset = prepare(DatasetSpec(), tmp_path)
    chosen = defaults.experiment("digits", {"model.kind": "cnn", "model.width": 8}, epochs=6, seed=1)
    figures = defaults.trial(chosen, dataset, seed=1)
    assert figures["epochs"] == 6
    assert figures["n"] == pytest.approx(len(dataset.split.development) / defaults.FOLDS, abs=5)
    assert figures["accuracy"] > 0.2


def test_the_table_compares_runs_of_the_same_seed():
    machine = {"commit": "abc", "processor": "P", "torch": "2"}
    lines = [
        {"setting": name, "seed": seed, "accuracy": a, "loss": 1.0, "cpu_seconds": 10.0, "n": 100, "epochs": 3,
         "threads": 1, "machine": machine}
        for name, accuracies in {"default": (0.5, 0.7), "other": (0.6, 0.8)}.items()
        for seed, a in enumerate(accuracies)
    ]  # fmt: skip
    default, other = render_defaults.table(lines).splitlines()[-2:]
    assert default.startswith("| default | 60.0 ± 14.1 |  |")
    assert other.startswith("| other | 70.0 ± 14.1 | +10.0 ± 0.0 |")


def test_runs_of_another_commit_are_not_compared_with_the_last():
    old, new, longer = (
        {"setting": "default", "epochs": epochs, "machine": {"commit": commit}}
        for commit, epochs in (("a", 2), ("b", 2), ("b", 3))
    )
    assert render_defaults.of_one_kind([old, longer, new, new]) == [new, new]
