"""Accuracy in a budget of minutes: the same pictures for all, none of them tested on; the epochs that fit; the page."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.parts import lay_out
from benchmarks.peers.budget import LEAST, WARM_UP, Pilot, Plan, plan
from benchmarks.pictures import folder_of, invented, save
from benchmarks.render import table
from benchmarks.render_budget import section
from data.prepare import Dataset, prepare
from data.spec import DatasetSpec

ROOT = Path(__file__).parents[2]
CLASSES, EACH = ("daisy", "rose", "tulip"), 20


def contents(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("*/*.jpg"))]


@pytest.fixture
def flowers(tmp_path: Path) -> Dataset:
    """No parts in the source, and one picture there twice."""
    random = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        for number in range(EACH):
            save(invented(random, label, 16), tmp_path / "flowers" / name, number)
        first = tmp_path / "flowers" / name / "00000.jpg"
        first.with_name("copy.jpg").write_bytes(first.read_bytes())
    return prepare(DatasetSpec(source=str(tmp_path / "flowers")), tmp_path / "home")


def test_no_test_picture_is_in_train_and_none_is_lost(flowers: Dataset, tmp_path: Path):
    counts = lay_out(flowers, tmp_path / "parts")
    train, test = contents(tmp_path / "parts" / "train"), contents(tmp_path / "parts" / "test")
    assert not set(train) & set(test)
    assert len(set(train) | set(test)) == len(CLASSES) * EACH
    assert counts == {"train": len(train), "test": len(test)}
    assert counts["train"] + counts["test"] == len(CLASSES) * (EACH + 1)


@pytest.mark.slow
def test_others_are_tested_on_the_product_s_test_rows_with_their_labels(flowers: Dataset, tmp_path: Path):
    lay_out(flowers, tmp_path / "parts")
    images, rows = flowers.images, flowers.split.test
    expected = sorted((images.classes[images.labels[row]], images.path(row).read_bytes()) for row in rows)
    laid = (tmp_path / "parts" / "test").glob("*/*.jpg")
    assert sorted((file.parent.name, file.read_bytes()) for file in laid) == expected


@pytest.mark.slow
def test_a_source_that_states_its_test_part_keeps_it(tmp_path: Path):
    folder_of(tmp_path / "cifar10", per_class=10, side=16)
    (tmp_path / "cifar10" / "val").rename(tmp_path / "val")
    stated = contents(tmp_path / "cifar10" / "test")
    leaked = tmp_path / "cifar10" / "train" / "class0" / "leaked.jpg"
    leaked.write_bytes(stated[0])
    dataset = prepare(DatasetSpec(source=str(tmp_path / "cifar10")), tmp_path / "home")
    counts = lay_out(dataset, tmp_path / "parts")
    assert counts == {"train": 100, "test": len(stated)}
    assert set(contents(tmp_path / "parts" / "test")) == set(stated)
    assert stated[0] not in contents(tmp_path / "parts" / "train")


@pytest.mark.slow
def test_fewer_pictures_of_each_class_may_be_asked_for(flowers: Dataset, tmp_path: Path):
    assert lay_out(flowers, tmp_path / "parts", per_class=2) == {"train": 6, "test": 6}


@pytest.mark.parametrize(
    ("budget_s", "expected"),
    [
        (100.0, Plan(epochs=10, steps=20, whole=20)),
        (19.0, Plan(epochs=1, steps=20, whole=20)),
        (6.0, Plan(epochs=1, steps=12, whole=20)),
        (0.1, Plan(epochs=1, steps=1, whole=20)),
    ],
)
def test_as_many_whole_epochs_as_fit_and_else_a_shortened_one(budget_s: float, expected: Plan):
    assert plan(budget_s, step_s=0.5, steps_per_epoch=20) == expected


def test_a_shortened_epoch_says_so():
    shortened = Plan(epochs=1, steps=12, whole=20)
    assert shortened.epochs_trained == 0.6
    assert "shortened to 12 of 20 steps" in shortened.words
    assert Plan(epochs=3, steps=20, whole=20).words == "3 whole"


def test_the_first_steps_of_a_pilot_do_not_count():
    pilot = Pilot(budget_s=10.0, ends=[9.0, 18.0, 27.0, 27.5, 28.0])
    assert pilot.step_s == 0.5
    assert not pilot.enough  # too few steps, however long they took


def test_a_pilot_ends_after_its_share_of_the_budget_once_it_has_the_fewest_steps():
    ends = [float(end) for end in range(WARM_UP + LEAST)]
    assert Pilot(budget_s=10 * ends[-1] - 1, ends=ends).enough
    assert not Pilot(budget_s=10 * ends[-1] + 1, ends=ends).enough


def run(contender: str, minutes: float, accuracy: float, **more: object) -> dict[str, object]:
    return {
        "case": "cifar10",
        "minutes": minutes,
        "contender": contender,
        "per_class": None,
        "command": "python -m benchmarks.budget",
        "epochs": 3,
        "seconds": 301.4,
        "images_per_s": 199.6,
        "test": {"n": 10_000, "accuracy": accuracy, "interval": {"low": accuracy - 0.01, "high": accuracy + 0.01}},
        "versions": {"torch": "2.15.0"},
        "settings": {"epochs": "3 whole", "pilot step s": 0.32154},
        "machine": {"processor": "P", "cores": "2", "python": "3.11", "torch": "2", "commit": "c"},
        **more,
    }


def test_the_page_has_a_row_for_each_contender_and_a_column_for_each_budget():
    runs = [
        run("timm", 5.0, 0.5, epochs=0.62),
        run("cnn", 15.0, 0.9),
        run("cnn", 5.0, 0.8),
        run("cnn", 5.0, 0.7, case="flowers"),
    ]
    page = section(lambda _: runs, table)
    lines = page.splitlines()
    assert [line for line in lines if line.startswith("###")] == [
        "### cifar10, 10,000 test pictures",
        "### flowers, 10,000 test pictures",
        "### Settings and commands of the budgets",
    ]
    assert [line for line in lines if line.startswith("|")] == [
        "|  | 5 min | 15 min |",
        "| --- | --- | --- |",
        "| cnn | **80.0%** (79.0% to 81.0%)<br>3 epochs, 301 s, 200/s | **90.0%** (89.0% to 91.0%)<br>3 epochs, 301 s, "
        "200/s |",
        "| timm | **50.0%** (49.0% to 51.0%)<br>0.62 epoch, 301 s, 200/s |  |",
        "|  | 5 min |",
        "| --- | --- |",
        "| cnn | **70.0%** (69.0% to 71.0%)<br>3 epochs, 301 s, 200/s |",
    ]
    assert "- cifar10, 5 min, timm (torch 2.15.0); epochs: 3 whole; pilot step s: 0.322; `python -m benchmarks" in page


def test_without_a_run_there_is_no_section():
    assert section(lambda _: [], table) == ""


@pytest.mark.slow
def test_the_product_is_measured_through_its_command_line(tmp_path: Path):
    folder_of(tmp_path / "pictures", per_class=20)
    with tarfile.open(tmp_path / "cifar10.tar.gz", "w:gz") as file:
        for part in ("train", "test"):
            file.add(tmp_path / "pictures" / part, arcname=part)
    small = ["--data", str(tmp_path), "--minutes", "0.05", "--case", "cifar10", "--contender", "cnn", "timm"]
    command = [sys.executable, "-m", "benchmarks.budget", *small, "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "timm left out" in done.stderr
    (file,) = tmp_path.glob("budget-*.json")
    assert file.name == "budget-cifar10-0.05-cnn.json"
    figures = json.loads(file.read_text())
    assert figures["test"]["n"] == 200
    assert figures["test"]["interval"]["low"] <= figures["test"]["accuracy"] <= figures["test"]["interval"]["high"]
    assert figures["epochs"] >= 1
