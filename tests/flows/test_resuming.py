"""`--resume RUN_ID`: what it finds, what it refuses, and what a new run says of those that wait."""

import fcntl
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data.errors import InputError
from flows import resuming
from flows.console import shown
from flows.home import VERDICT
from models.claims import release
from models.config import Experiment, TrainConfig
from models.records import FoldResult
from models.run import RunFolder, new_run
from models.training.folds import HeldOut, keep_folds
from models.zoo.config import CNNConfig, ViTConfig

DATA, OTHER_DATA = "a" * 64, "b" * 64
TWENTY = Experiment(train=TrainConfig(epochs=20))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path))
    return tmp_path


def left(home: Path, experiment: Experiment = TWENTY, fingerprint: str = DATA) -> RunFolder:
    """As a process that was killed leaves it."""
    folder = refused(home, experiment, fingerprint)
    folder.checkpoint.mkdir()
    (folder.checkpoint / "checkpoint-0000000001.pt").write_bytes(b"")
    return folder


def refused(home: Path, experiment: Experiment = TWENTY, fingerprint: str = DATA) -> RunFolder:
    """As a run leaves it that ended before its first step."""
    folder = new_run(home, experiment, fingerprint)
    release(folder.path)
    return folder


def test_a_run_that_ended_in_its_second_fold_waits_to_be_gone_on_with(home: Path):
    folder = refused(home)
    assert folder not in resuming.waiting()
    answers = HeldOut(np.arange(10), np.zeros((10, 2), np.float32))
    keep_folds(folder, [FoldResult(fold=0, accuracy=0.9, n=10, epochs_run=2, seconds=1.0)], {0: answers}, str)
    assert resuming.waiting() == [folder]
    assert resuming.find("latest") == folder


def test_settings_that_differ_are_named_with_both_values_and_the_way_on(home: Path):
    folder = left(home)
    with pytest.raises(InputError) as said:
        resuming.asked(folder, ["--train.epochs", "40", "--optimizer.lr", "0.01", "--train.seed", "0"], None)
    assert str(said.value) == (
        f"run {folder.run_id} was started with other settings: optimizer.lr 0.002, now 0.01, train.epochs 20, now 40; "
        "leave them out to go on with it, or leave out --resume to start another run"
    )


def test_the_same_settings_or_none_are_the_run_itself(home: Path):
    folder = left(home)
    assert resuming.asked(folder, [], None) == TWENTY
    assert resuming.asked(folder, ["--train.epochs", "20"], None) == TWENTY


def test_a_preset_or_a_file_is_compared_as_a_whole(home: Path, tmp_path: Path):
    folder = left(home)
    with pytest.raises(InputError, match=r"name custom, now digits-vit, .*model.kind cnn, now vit"):
        resuming.asked(folder, ["digits-vit"], None)
    (tmp_path / "same.yaml").write_text("train: {epochs: 20}")
    assert resuming.asked(folder, [], tmp_path / "same.yaml") == TWENTY


def test_of_another_kind_only_the_kind_is_told():
    assert resuming.differences(Experiment(model=CNNConfig(width=8)), Experiment(model=ViTConfig())) == [
        "model.kind cnn, now vit"
    ]


def test_a_run_that_was_refused_before_its_first_step_does_not_wait(home: Path):
    begun = left(home)
    refused(home, TWENTY, OTHER_DATA)
    assert resuming.find("latest") == begun


def test_the_latest_is_the_newest_that_waits(home: Path):
    first, second = left(home), left(home, fingerprint=OTHER_DATA)
    new_run(home, Experiment(), DATA)  # this process works on it
    assert resuming.find("latest") in (first, second)
    assert resuming.find(first.run_id) == first


def test_of_those_that_wait_the_ones_worked_on_lately_are_told_apart(home: Path):
    old, gone_on_with = left(home), left(home, fingerprint=OTHER_DATA)
    for folder in (old, gone_on_with):
        os.utime(folder.path, (1, 1))
        os.utime(folder.checkpoint, (1, 1))
    (gone_on_with.checkpoint / "checkpoint-0000000002.pt").write_bytes(b"")
    assert resuming.left_since(1000) == [gone_on_with]


def test_a_run_that_is_not_there_or_is_done_is_refused_with_a_remedy(home: Path):
    with pytest.raises(InputError, match="no unfinished run is in"):
        resuming.find("latest")
    folder = left(home)
    with pytest.raises(InputError, match=f"no run 'nonsense' .*unfinished ones: {folder.run_id}"):
        resuming.find("nonsense")
    (folder.path / VERDICT).write_text("{}")
    with pytest.raises(InputError, match="has got to its verdict"):
        resuming.find(folder.run_id)


def test_a_run_of_another_version_is_refused_with_a_remedy(home: Path):
    folder = left(home)
    (folder.path / "experiment.json").write_text('{"weeks": 3}')
    with pytest.raises(InputError, match="of another version of this program"):
        resuming.asked(folder, [], None)


def test_other_pictures_other_settings_and_another_process_are_refused(home: Path):
    folder = left(home)
    with pytest.raises(InputError, match="the pictures of digits are not those that run"):
        resuming.choose_folder(TWENTY, OTHER_DATA, resume=folder.run_id)
    with pytest.raises(InputError, match=r"train.epochs 20, now none"):
        resuming.choose_folder(Experiment(), DATA, resume=folder.run_id)
    with (folder.path / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="under way in another process"):
            resuming.choose_folder(TWENTY, DATA, resume=folder.run_id)
    assert resuming.choose_folder(TWENTY, DATA, resume=folder.run_id) == folder


def test_a_run_from_before_a_setting_was_new_is_gone_on_with(home: Path):
    folder = left(home)
    settings = json.loads((folder.path / "experiment.json").read_bytes())
    del settings["model"]["blocks"]
    (folder.path / "experiment.json").write_text(json.dumps(settings))
    (folder.path / "key").write_text("of the settings of then")
    assert resuming.choose_folder(TWENTY, DATA, resume=folder.run_id) == folder
    with pytest.raises(InputError, match="the pictures of"):
        resuming.choose_folder(TWENTY, OTHER_DATA, resume=folder.run_id)


def test_of_two_runs_alike_the_one_that_was_named_is_gone_on_with(home: Path):
    first, second = left(home), left(home)
    assert resuming.choose_folder(TWENTY, DATA, resume=second.run_id) == second
    assert first != second


def said_by(experiment: Experiment, fingerprint: str) -> str:
    out = io.StringIO()
    with shown(Console(file=out, width=300)):
        resuming.choose_folder(experiment, fingerprint, resume=None)
    return out.getvalue()


def test_a_new_run_names_the_unfinished_ones_on_the_same_pictures(home: Path):
    waiting = left(home)
    left(home, fingerprint=OTHER_DATA)
    told = said_by(Experiment(), DATA)
    assert told.count("\n") == 1
    assert told.rstrip().endswith(f"unfinished on the same pictures: {waiting.run_id} (see --resume)")


def test_a_first_run_and_one_that_is_gone_on_with_say_nothing(home: Path):
    assert said_by(TWENTY, DATA) == ""
    waiting = left(home, Experiment())
    (waiting.path / "history.jsonl").write_text("")
    left(home)
    assert said_by(Experiment(), DATA) == ""
