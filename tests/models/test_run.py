import fcntl
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.spec import DatasetSpec
from models.config import Experiment, TrainConfig
from models.records import EpochRecord
from models.run import RunFolder, open_run, runs, subject_of

DATA, OTHER_DATA = "a" * 64, "b" * 64


def record(epoch: int, *, loss: float = 1.0) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        step=epoch,
        lr=0.1,
        train_loss=loss,
        val_loss=loss,
        val_accuracy=0.5,
        grad_norm=1.0,
        seconds=1.0,
        images_per_s=1.0,
    )


def test_a_run_is_named_by_time_subject_and_key(tmp_path: Path):
    folder = open_run(tmp_path, Experiment(dataset=DatasetSpec(source="/tmp/My Flowers.tar.gz")), DATA)
    assert re.fullmatch(r"\d{8}-\d{6}-my-flowers-[0-9a-f]{6}", folder.run_id)
    assert folder.path.parent == tmp_path / "runs"
    assert folder.experiment().dataset.source == "/tmp/My Flowers.tar.gz"


@pytest.mark.parametrize(
    ("source", "subject"),
    [("digits", "digits"), ("../pets/", "pets"), ("https://x.org/a_b.zip", "a-b"), ("Ähm", "hm"), ("...", "run")],
)
def test_a_subject_has_only_letters_digits_and_dashes(source: str, subject: str):
    assert subject_of(Experiment(dataset=DatasetSpec(source=source))) == subject


def test_an_unfinished_run_of_the_same_experiment_is_gone_on_with(tmp_path: Path):
    assert open_run(tmp_path, Experiment(), DATA) == open_run(tmp_path, Experiment(), DATA)


@pytest.mark.parametrize(
    ("experiment", "fingerprint"), [(Experiment(train=TrainConfig(seed=1)), DATA), (Experiment(), OTHER_DATA)]
)
def test_another_experiment_or_other_data_is_another_run(tmp_path: Path, experiment: Experiment, fingerprint: str):
    assert open_run(tmp_path, Experiment(), DATA) != open_run(tmp_path, experiment, fingerprint)


def test_a_finished_run_is_left_alone(tmp_path: Path):
    first = open_run(tmp_path, Experiment(), DATA)
    (first.path / "run.json").write_text("{}")
    second = open_run(tmp_path, Experiment(), DATA)
    assert second != first
    assert runs(tmp_path) == [first, second]


@pytest.mark.slow
def test_two_processes_never_share_a_folder(tmp_path: Path):
    code = """
import sys
from pathlib import Path
from models.config import Experiment
from models.run import open_run
sys.stdin.readline()
print(open_run(Path(sys.argv[1]), Experiment(), "a" * 64).run_id, flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[2]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in processes:
        process.stdin.write("open\n")
        process.stdin.flush()
    names = {process.stdout.readline().strip() for process in processes}
    for process in processes:
        process.communicate("end\n")
    assert len(names) == 3
    assert {folder.run_id for folder in runs(tmp_path)} == names
    assert open_run(tmp_path, Experiment(), DATA).run_id in names  # once they have ended, one is gone on with


def test_what_a_kill_left_half_made_is_cleared_away_unless_somebody_works_on_it(tmp_path: Path):
    left, worked_on = tmp_path / "runs" / ".new-left", tmp_path / "runs" / ".new-worked-on"
    for folder in (left, worked_on):
        folder.mkdir(parents=True)
        (folder / "experiment.json").write_text("{}")
    with (worked_on / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        open_run(tmp_path, Experiment(), DATA)
        assert not left.exists()
        assert worked_on.exists()
    open_run(tmp_path, Experiment(), OTHER_DATA)
    assert not worked_on.exists()
    assert len(runs(tmp_path)) == 2


def test_an_epoch_that_is_told_again_has_one_line(tmp_path: Path):
    folder = RunFolder(tmp_path)
    assert folder.history() == ()
    for epoch in (0, 1, 2):
        folder.write_epoch(record(epoch))
    folder.write_epoch(record(1, loss=0.5))
    assert folder.history() == (record(0), record(1, loss=0.5))


def test_predictions_come_back_as_they_were(tmp_path: Path):
    arrays = {"test_logits": np.eye(3, dtype=np.float32), "test_rows": np.arange(3)}
    RunFolder(tmp_path).write_predictions(arrays)
    back = RunFolder(tmp_path).predictions()
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]


@pytest.mark.slow
def test_looking_at_runs_needs_no_torch():
    code = "import sys, models.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
