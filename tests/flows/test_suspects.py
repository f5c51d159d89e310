"""Labels that look wrong, between folds and the final training: told, listed for a decision, or a reason to stop."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from lamps import draw
from prefect.logging import disable_run_logger

from data.errors import DataRefused
from data.gate.quarantine import file_of
from data.prepare import Dataset, prepare
from data.spec import DatasetSpec
from flows import suspects
from flows.prepare import Prepared
from models.evaluation.labels import Suspects, among
from models.run import RunFolder

DOUBTED = 3


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(suspects, "show_labels", lambda *_: None)
    with disable_run_logger():
        yield


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = tmp_path / "run"
    folder.mkdir()
    return RunFolder(folder)


@pytest.fixture
def lamps(tmp_path: Path):
    """lamps("stop") -> prepared, with that level."""
    source = draw(tmp_path / "lamps", per_class=30)

    def at(level: str) -> Prepared:
        gate = {"labels": {"level": level}}
        spec = DatasetSpec.model_validate({"source": str(source), "size": 12, "gate": gate})
        found = prepare(spec, tmp_path / "home")
        return Prepared(dataset=spec, home=tmp_path / "home", fingerprint=found.report.fingerprint)

    return at


def doubting(run: RunFolder, dataset: Dataset) -> Suspects:  # noqa: ARG001
    """A network that is sure of the other class for the first three pictures that are trained on."""
    rows = dataset.split.train
    sure = np.eye(2)[dataset.images.labels[rows]]
    sure[:DOUBTED] = sure[:DOUBTED, ::-1]
    return among(dataset, rows, (0.98 * sure + 0.01).astype(np.float32))


def failing(run: RunFolder, dataset: Dataset) -> Suspects:  # noqa: ARG001
    raise OSError("no room")


def listed(prepared: Prepared) -> list[dict[str, str]]:
    file = file_of(prepared.home, "lamps")
    lines = csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline="")) if file.exists() else []
    return [line for line in lines if line["rule"] == "labels"]


def test_they_are_listed_for_a_decision_with_the_likelier_class(run: RunFolder, lamps):
    prepared = lamps("warn")
    found = suspects.look_at_labels(run, prepared, doubting, before_training=True)
    assert found is not None
    assert [line["sha256"] for line in listed(prepared)] == list(found.sha256)
    assert {line["advice"] for line in listed(prepared)} == {"label=dark, or keep"}
    assert len((run.path / "labels.csv").read_text().splitlines()) == 1 + DOUBTED
    lamps("warn")  # what is found before leaves them there
    assert len(listed(prepared)) == DOUBTED


def test_they_stop_a_run_before_its_final_training_until_each_is_decided(run: RunFolder, lamps):
    prepared = lamps("stop")
    file = file_of(prepared.home, "lamps")
    with pytest.raises(DataRefused, match=r"3 of \d+ labels look wrong, and dataset.gate.labels.level is stop; look"):
        suspects.look_at_labels(run, prepared, doubting, before_training=True)
    assert suspects.look_at_labels(run, prepared, doubting) is not None  # a trained model is not lost
    rows = [f"{line['sha256']},keep" for line in listed(prepared)]
    file.write_text("\n".join(["sha256,decision", *rows]) + "\n")
    found = suspects.look_at_labels(run, lamps("stop"), doubting, before_training=True)
    assert found is not None
    assert found.rows == ()


def test_they_are_not_looked_for_where_they_are_ignored(run: RunFolder, lamps):
    prepared = lamps("ignore")
    assert suspects.look_at_labels(run, prepared, failing, before_training=True) is None
    assert listed(prepared) == []


def test_a_search_that_fails_is_told_and_lets_through_only_where_nothing_may_be_stopped(run: RunFolder, lamps):
    for level, early in (("warn", True), ("warn", False), ("stop", False)):
        assert suspects.look_at_labels(run, lamps(level), failing, before_training=early) is None
    with pytest.raises(OSError, match="no room"):
        suspects.look_at_labels(run, lamps("stop"), failing, before_training=True)
