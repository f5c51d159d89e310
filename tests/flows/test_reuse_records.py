"""What a run takes over from another: files that are whole, of the same key, linked or copied, or nothing at all."""

import os
import shutil
from pathlib import Path

import pytest

from flows.home import run_folder
from flows.reuse import records
from flows.reuse.stages import Stage
from models.claims import release
from models.config import Experiment
from models.run import RunFolder, new_run, open_run, read_refresh

DATA, KEY = "a" * 64, "k" * 64
WEIGHTS = {"weights.safetensors": b"weights", "fit.json": b"{}", "network.json": b"{}", "tensorboard/events": b"curve"}


def run_with(home: Path, files: dict[str, bytes], stage: Stage = "train", key: str = KEY) -> RunFolder:
    """A run that ended this stage."""
    run = new_run(home, Experiment(), DATA)
    for name, content in files.items():
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_bytes(content)
    records.write_down(stage, run, key, made_by=run.run_id)
    return run


def taken(run: RunFolder, home: Path, stage: Stage = "train", key: str = KEY) -> str | None:
    return records.take_over(stage, run, key, home, settle=lambda _: None)


def left(run: RunFolder) -> set[str]:
    return {path.name for path in run.path.iterdir()} - {"experiment.json", "key", "fingerprint", "lock"}


def test_the_files_of_a_stage_are_linked_and_not_copied(tmp_path: Path):
    first, second = run_with(tmp_path, WEIGHTS), new_run(tmp_path, Experiment(), DATA)
    assert taken(second, tmp_path) == first.run_id
    for name, content in WEIGHTS.items():
        assert (second.path / name).read_bytes() == content
        assert (second.path / name).stat().st_ino == (first.path / name).stat().st_ino
    assert left(second) == {"weights.safetensors", "fit.json", "network.json", "tensorboard", records.FILE}


def test_what_was_taken_over_is_a_source_itself_and_names_the_run_that_made_it(tmp_path: Path):
    first, second, third = run_with(tmp_path, WEIGHTS), *(new_run(tmp_path, Experiment(), DATA) for _ in range(2))
    assert taken(second, tmp_path) == first.run_id
    shutil.rmtree(first.path)
    assert records.here("train", second, KEY) == first.run_id
    assert taken(third, tmp_path) == first.run_id


def test_the_answers_of_folds_go_with_their_figures(tmp_path: Path):
    run_with(tmp_path, {"folds/0.json": b"{}", "folds/0.npz": b"answers", "folds/orders": b""}, "cross-validate")
    second = new_run(tmp_path, Experiment(), DATA)
    assert taken(second, tmp_path, "cross-validate") is not None
    assert {path.name for path in (second.path / "folds").iterdir()} == {"0.json", "0.npz"}


def test_another_key_is_not_taken_over(tmp_path: Path):
    run_with(tmp_path, WEIGHTS)
    other = new_run(tmp_path, Experiment(), DATA)
    assert taken(other, tmp_path, key="another") is None
    assert taken(other, tmp_path, stage="export") is None
    assert left(other) == set()


@pytest.mark.parametrize("harm", ["lost", "corrupt"])
def test_a_run_that_lost_a_file_or_holds_a_wrong_byte_is_no_source_and_an_older_whole_one_is(tmp_path: Path, harm: str):
    whole, harmed = run_with(tmp_path, WEIGHTS), run_with(tmp_path, WEIGHTS)
    os.utime(whole.path / records.FILE, (1, 1))
    if harm == "lost":
        (harmed.path / "weights.safetensors").unlink()
    else:
        (harmed.path / "weights.safetensors").write_bytes(b"weightz")
    run = new_run(tmp_path, Experiment(), DATA)
    assert taken(run, tmp_path) == whole.run_id
    shutil.rmtree(whole.path)
    other = new_run(tmp_path, Experiment(), DATA)
    shutil.rmtree(run.path)
    assert taken(other, tmp_path) is None
    assert left(other) == set()


def test_curves_that_were_cleared_away_do_no_harm(tmp_path: Path):
    first = run_with(tmp_path, WEIGHTS)
    shutil.rmtree(first.path / "tensorboard")
    assert taken(new_run(tmp_path, Experiment(), DATA), tmp_path) == first.run_id


def test_what_this_version_cannot_read_is_not_taken_over(tmp_path: Path):
    run_with(tmp_path, WEIGHTS)
    run = new_run(tmp_path, Experiment(), DATA)

    def refuse(part: RunFolder) -> None:
        assert (part.path / "weights.safetensors").exists()
        raise ValueError("of another version")

    assert records.take_over("train", run, KEY, tmp_path, settle=refuse) is None
    assert left(run) == set()


def test_a_change_on_the_way_leaves_the_source_as_it_was(tmp_path: Path):
    first = run_with(tmp_path, {"predictions.npz": b"p", "run.json": b"first"}, "evaluate")
    run = new_run(tmp_path, Experiment(), DATA)

    def rename(part: RunFolder) -> None:
        (part.path / "run.json.new").write_bytes(b"second")
        (part.path / "run.json.new").replace(part.path / "run.json")

    assert records.take_over("evaluate", run, KEY, tmp_path, settle=rename) == first.run_id
    assert (first.path / "run.json").read_bytes() == b"first"
    assert (run.path / "run.json").read_bytes() == b"second"
    shutil.rmtree(first.path)
    assert taken(new_run(tmp_path, Experiment(), DATA), tmp_path, "evaluate") == first.run_id  # what it became is noted


def test_a_bundle_replaces_what_a_kill_left_of_one(tmp_path: Path):
    first = run_with(tmp_path, {"bundle/card.json": b"{}"}, "export")
    run = new_run(tmp_path, Experiment(), DATA)
    (run.path / "bundle").mkdir()
    (run.path / "bundle" / "half").touch()
    assert taken(run, tmp_path, "export") == first.run_id
    assert [path.name for path in run.bundle.iterdir()] == ["card.json"]


def test_trials_of_sweeps_are_sources_too(tmp_path: Path):
    trained = run_with(tmp_path, WEIGHTS)
    trial = tmp_path / "trials" / "night-003"
    trial.parent.mkdir()
    trained.path.rename(trial)
    assert taken(new_run(tmp_path, Experiment(), DATA), tmp_path) == trained.run_id


def test_what_a_run_made_before_an_interruption_is_found_again(tmp_path: Path):
    run = run_with(tmp_path, WEIGHTS)
    assert records.here("train", run, KEY) == run.run_id
    assert records.here("train", run, "another") is None
    (run.path / "weights.safetensors").unlink()
    assert records.here("train", run, KEY) is None


def test_a_record_that_is_damaged_is_none(tmp_path: Path):
    run = run_with(tmp_path, WEIGHTS)
    (run.path / records.FILE).write_text("{")
    assert records.read(run.path) == {}
    assert taken(new_run(tmp_path, Experiment(), DATA), tmp_path) is None


def test_a_disk_without_links_gets_copies(tmp_path: Path):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("wants two disks")
    first, run = run_with(tmp_path, WEIGHTS), new_run(tmp_path, Experiment(), DATA)
    away = Path(shutil.copytree(first.path, elsewhere / f"trainserve-{os.getpid()}"))
    try:
        records._link(away / "fit.json", run.path / "fit.json")
        assert (run.path / "fit.json").read_bytes() == b"{}"
    finally:
        shutil.rmtree(away)


def test_a_run_that_is_to_make_a_stage_itself_is_another_one_and_is_gone_on_with_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path))
    waiting = open_run(tmp_path, Experiment(), DATA)
    anew = open_run(tmp_path, Experiment(), DATA, refresh={"train", "evaluate"})
    assert anew != waiting
    assert read_refresh(anew) == {"train", "evaluate"}
    assert read_refresh(waiting) == set()
    for folder in (waiting, anew):
        release(folder.path)
    assert run_folder(Experiment(), DATA, refresh={"train"}) == anew
    assert run_folder(Experiment(), DATA) == waiting
