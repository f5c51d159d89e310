"""What is shown of a run, at the terminal and in the Prefect UI, as values."""

import io
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.logging import disable_run_logger
from rich.console import Console

from data.validate import ClassCount, Finding, ValidationReport
from flows import artifacts, pages, server
from flows.artifacts import Progress
from flows.console import Display, duration, going_on, shown
from flows.data_page import data_page
from flows.prepare import left
from flows.train import Watch
from models.config import TrainConfig
from models.evaluation import data_page as data_pages
from models.evaluation.diagnosis.remark import Remark
from models.evaluation.report import Picture
from models.records import EpochRecord
from models.training.pulse import ProgressUpdate
from models.verdict import Check, Verdict


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (9.96, "10 s"), (59.7, "1:00"), (185, "3:05"), (3723, "1:02:03")]
)
def test_a_duration_is_read_at_a_glance(seconds: float, shown: str):
    assert duration(seconds) == shown


def record(epoch: int, *, accuracy: float = 0.5, loss: float = 1.0) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        step=epoch,
        lr=0.1,
        train_loss=1.0,
        val_loss=loss,
        val_accuracy=accuracy,
        grad_norm=1.0,
        seconds=0.01,
        images_per_s=1000,
    )


def test_a_log_file_gets_lines_at_a_human_rate_and_always_the_last_epoch():
    out = io.StringIO()
    display = Display(Console(file=out, width=120))
    with display.stage("train"):
        for epoch in range(1000):
            display.epoch(record(epoch), 1000, best=False)
            display.moved("x", epoch, 1000)
        display.say("done")
    lines = out.getvalue().splitlines()
    assert len(lines) < 10
    assert "epoch 1000/1000" in lines[-2]
    assert lines[-1].startswith("✓ train")
    assert lines[-1].endswith("done")


@pytest.mark.parametrize("ended", [1000, 600], ids=["to its end", "stopped early"])
def test_of_a_fast_run_the_best_epoch_has_a_line_too(ended: int):
    out = io.StringIO()
    display = Display(Console(file=out, width=120))
    with display.stage("train"):
        for epoch in range(ended):
            display.epoch(record(epoch), 1000, best=epoch in (0, 100, 500))
    lines = out.getvalue().splitlines()
    assert len(lines) < 10
    told = [line for line in lines if line.endswith("best")]
    assert "epoch    1/1000" in told[0]
    assert "epoch  501/1000" in told[-1]
    assert lines[-1].startswith("✓ train")


def best_of(records: list[EpochRecord], told: tuple[EpochRecord, ...] = (), **train: str) -> list[int]:
    """Epochs that a terminal marks as the best so far, of a slow run."""
    out = io.StringIO()
    with shown(Console(file=out, width=120)) as display, disable_run_logger():
        watch = Watch(Progress(), TrainConfig(**train), told=told)
        for one in records:
            display._epoch_at = 0.0
            watch.epoch(one)
    return [int(line.split("/")[0].split()[-1]) - 1 for line in out.getvalue().splitlines() if line.endswith("best")]


FIGURES = [(0.5, 1.0), (0.6, 1.2), (0.6, 1.1), (0.5, 0.9)]  # accuracy, loss
RECORDS = [record(epoch, accuracy=accuracy, loss=loss) for epoch, (accuracy, loss) in enumerate(FIGURES)]


def test_the_best_epoch_at_the_terminal_is_the_one_that_is_kept():
    assert best_of(RECORDS, monitor="val_accuracy") == [0, 1, 2]
    assert best_of(RECORDS, monitor="val_loss") == [0, 3]


def test_a_run_that_goes_on_knows_the_best_epoch_so_far():
    """Also where the last epochs before the kill are told again."""
    assert best_of(RECORDS[3:], tuple(RECORDS[:3])) == []
    assert best_of(RECORDS[2:], tuple(RECORDS)) == [2]


def test_a_run_that_is_gone_on_with_says_from_which_step_and_a_new_one_does_not():
    first = ProgressUpdate(
        epoch=3, epochs=40, step=1034, total_steps=5000, train_loss=0.7, images_per_s=9, seconds_left=1
    )
    assert going_on("x", first) == "going on with run x from step 1,034 of 5,000, in epoch 4 of 40"
    assert going_on("x", replace(first, epoch=0, step=1)) is None


def test_a_stage_that_fails_is_marked_and_timed():
    out = io.StringIO()
    display = Display(Console(file=out, width=120))
    with pytest.raises(ValueError, match="no"), display.stage("export"):
        raise ValueError("no")
    assert out.getvalue().startswith("✗ export")
    assert display.seconds["export"] >= 0


@pytest.mark.parametrize(
    ("took_s", "done", "total", "said"),
    [(30, 100, 400, ", 1:30 left"), (30, 0, 400, ""), (30, 400, 400, ""), (0, 100, 400, ""), (30, 12, 0, "")],
)
def test_the_time_left_of_the_pictures_is_told_by_the_pace_so_far(took_s: float, done: int, total: int, said: str):
    assert left(took_s, done, total) == said


def report(*labels: str) -> ValidationReport:
    return ValidationReport(
        name="lamps",
        fingerprint="0" * 64,
        num_examples=10,
        num_unreadable=1,
        height=8,
        width=8,
        channels=3,
        classes=tuple(ClassCount(label=label, train=3, val=1, test=1) for label in labels),
        findings=(Finding(rule="r", level="warn", message="one class is rare; add pictures"),),
    )


def test_the_data_page_shows_counts_findings_and_pictures():
    page = data_page(report("dark", "a|b"), {"dark": b"jpeg", "a|b": b"jpeg"})
    assert "one class is rare" in page
    assert "| dark | 3 | 1 | 1 | ![](data:image/jpeg;base64," in page
    assert page.count("a|b") == 0
    assert "| a\\|b |" in page  # a label cannot break the table


def test_a_thousand_classes_do_not_make_a_thousand_rows():
    page = data_page(report(*(f"class {k}" for k in range(1000))), {})
    assert page.count("\n") < 40
    assert "and 980 more" in page


def test_the_page_of_mistakes_has_a_picture_for_each_and_says_where_there_are_none():
    wrong = (Picture("a|b/1.png", "a|b", "<i>", 0.987, b"jpeg"), Picture("c/2.png", "c", "d", 0.6, None))
    first, second = pages.mistakes_page(wrong).splitlines()[-2:]
    assert first == "| ![](data:image/jpeg;base64,anBlZw==) | a\\|b | &lt;i> | 98.7 % | a\\|b/1.png |"
    assert second == "| cannot be shown | c | d | 60.0 % | c/2.png |"
    assert pages.mistakes_page(()) == "Every test picture was answered rightly.\n"


def test_the_verdict_page_has_the_figures_of_both():
    verdict = Verdict(
        promoted=True,
        relation="better",
        reason="Better.",
        n=100,
        challenger_accuracy=0.9,
        champion_accuracy=0.8,
        difference=0.1,
        difference_low=0.05,
        champion="lamps@1",
        checks=(
            Check(name="size", value=1.0, limit=2.0, ok=True, said="1 MB"),
            Check(name="classes", value=1.0, limit=0.0, ok=False, said="a class fell: a|b"),
        ),
    )
    page = pages.verdict_page(verdict, "lamps@2")
    assert "lamps@2 is now the champion of lamps" in page
    assert "lamps@1: 80.0 %" in page
    assert "+10.0 points, at least +5.0" in page
    assert page.splitlines()[-2:] == ["| ✓ | size | 1 MB |", "| ✗ | classes | a class fell: a\\|b |"]


def test_the_sentence_above_a_verdict_cannot_be_a_picture_from_elsewhere(monkeypatch: pytest.MonkeyPatch):
    shown: dict[str, str] = {}
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda _, **told: shown.update(told))
    reason = "Kept lamps@1: a class fell: ![x](//host/y)<b>"
    verdict = Verdict(promoted=False, relation="worse", reason=reason, n=9, challenger_accuracy=0.9)
    artifacts.show_verdict.__wrapped__(verdict, "lamps@2")  # type: ignore[attr-defined]
    assert shown["description"] == r"Kept lamps@1: a class fell: !\[x](//host/y)&lt;b>"


@pytest.mark.parametrize("fails", [True, False])
def test_a_page_that_is_a_file_tells_nothing_of_the_server(fails: bool, monkeypatch: pytest.MonkeyPatch):
    def write(*_: object, home: Path) -> Path:
        if fails:
            raise OSError("no space left")
        return home

    monkeypatch.setattr(data_pages, "write", write)
    monkeypatch.setattr(artifacts, "_away", threading.Event())
    artifacts._away.set()
    nothing = SimpleNamespace(report=None, images=SimpleNamespace(snapshot=None), data_file=None)
    artifacts.leave_data_page(nothing, nothing, Path())  # type: ignore[arg-type]
    assert artifacts._away.is_set()


def test_the_diagnosis_page_says_what_to_try_and_shows_each_picture_once():
    remarks = (
        Remark("overfitting", "warning", "Overfitting: 40 | points.", "more pictures", "curves"),
        Remark("stopped", "note", "Stopped after 3 of 9 epochs: enough.", picture="curves"),
        Remark("minimum", "fine", "Minimum: in layer <b>.", picture="spectrum"),  # whose picture was not drawn
    )
    page = pages.diagnosis_page(remarks, {"curves": b"png"})
    assert "- **mind** **Overfitting:** 40 \\| points." in page
    assert "What to try: more pictures." in page
    assert page.count("data:image/png") == 1
    assert "&lt;b>" in page
    assert pages.headline(remarks) == "What the curves say: 1 warning (overfitting)"
    assert pages.headline(remarks[1:]) == "What the curves say: no warnings"


def test_a_server_chosen_by_variable_or_profile_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert server.configured() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://there/api")
    assert server.configured() == "http://there/api"
