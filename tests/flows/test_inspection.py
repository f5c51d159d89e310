"""`trainserve data inspect` and `quarantine`: what was found, as a table, and where a person decides."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from lamps import draw
from rich.console import Console

from data.gate.judge import Dropped
from data.validate import ClassCount, Finding, ValidationReport
from flows.cli.app import main
from flows.cli.inspection import show


@pytest.fixture
def lamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one picture in both classes and a copy of another one."""
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    folder = draw(tmp_path / "lamps", per_class=30)
    shutil.copy(folder / "bright/000.png", folder / "dark/odd.png")
    shutil.copy(folder / "dark/001.png", folder / "dark/copy.png")
    return folder


def printed(*tokens: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    main([str(token) for token in tokens])
    return capsys.readouterr().out


def report(*findings: Finding, dropped: tuple[Dropped, ...] = ()) -> ValidationReport:
    counts = (ClassCount(label="rose", train=1, val=1, test=1),)
    numbers = {"num_examples": 3, "num_unreadable": 0, "height": 8, "width": 8, "channels": 3}
    return ValidationReport(
        name="flowers", fingerprint="0" * 64, classes=counts, findings=findings, dropped=dropped, **numbers
    )


def shown(told: ValidationReport) -> str:
    out = io.StringIO()
    show(told, Console(file=out, width=140))
    return out.getvalue()


def test_each_finding_is_a_line_of_a_table_with_its_count_and_examples():
    odd = Finding(
        rule="contradictions", level="drop", message="what to do", count=1200, groups=(("a/1.png", "b/2.png"),)
    )
    dropped = Dropped(rule="contradictions", train=900, val=100, test=0, stay=200)
    lines = shown(report(odd, dropped=(dropped,))).splitlines()
    (line,) = [line for line in lines if "a/1.png" in line]
    told = "contradictions drop 1,200 900 train, 100 validation, 200 of test stay a/1.png = b/2.png"
    assert " ".join(line.split()) == told
    assert "contradictions: what to do" in lines


def test_a_report_without_findings_has_no_table_of_them():
    assert "examples" not in shown(report())


def test_strangers_names_are_shown_as_they_are():
    odd = Finding(rule="copies", level="warn", message="[red]m", count=1, files=("[bold]x[/bold].png", "y" * 300))
    out = shown(report(odd))
    assert "[bold]x[/bold].png" in out
    assert "[red]m" in out
    assert "y" * 30 not in out


@pytest.mark.slow
def test_what_is_found_can_be_decided_and_counts_in_the_next_look(lamps: Path, capsys: pytest.CaptureFixture[str]):
    assert "Not written yet" in printed("data", "quarantine", lamps, capsys=capsys)
    out = printed("data", "inspect", lamps, "--dataset.gate.copies.level", "drop", capsys=capsys)
    assert "bright/000.png = dark/odd.png" in out
    assert "`trainserve data quarantine lamps` says how" in out
    told = json.loads(printed("data", "quarantine", "lamps", "--json", capsys=capsys))
    assert (told["undecided"], sum(told["decided"].values())) == ({"contradictions": 1, "copies": 1}, 0)
    file = Path(told["file"])
    lines = list(csv.reader(io.StringIO(file.read_text("utf-8-sig"))))
    for line in lines:
        line[5] = "label=bright" if line[2] == "contradictions" else line[5]
    with file.open("w", encoding="utf-8-sig", newline="") as saved:
        csv.writer(saved).writerows(lines)
    out = printed("data", "quarantine", lamps, capsys=capsys)
    assert "undecided: 1 copies" in out
    assert "decided: 1 label" in out
    assert "label=NAME" in out
    after = json.loads(printed("data", "inspect", lamps, "--json", capsys=capsys))
    assert after["relabelled"] == 1
    assert {finding["rule"]: finding["level"] for finding in after["findings"]} == {
        "quarantine": "note", "copies": "warn"}  # fmt: skip


@pytest.mark.slow
def test_what_is_found_can_be_looked_at_also_where_it_stops(
    lamps: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    file = tmp_path / "found.html"
    assert f"the pictures are in {file}" in printed("data", "inspect", lamps, "--html", file, capsys=capsys)
    assert file.read_text().count("data:image/jpeg;base64,") == 4  # two pairs
    file.unlink()
    with pytest.raises(SystemExit) as left:
        main(["data", "inspect", str(lamps), "--html", str(file), "--dataset.gate.copies.level", "stop"])
    assert left.value.code == 2
    assert file.read_text().count("data:image/jpeg;base64,") == 4


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (["quarantine", "no-such-set"], "'no-such-set' is no folder"),
        (["quarantine", "../no-such-folder/passwd"], "there is no file or folder '../no-such-folder/passwd'"),
        (["inspect", "digits", "--dataset.gate.copies.level", "remove"], "dataset.gate.copies.level is 'remove'; it"),
        (["inspect", "digits", "--dataset.gate.leakage.level", "warn"], "should be 'drop' or 'stop'"),
        (["inspect", "digits", "--dataset.gate.copies.threshold", "3"], "dataset.gate.copies.threshold is not a known"),
        (["inspect", "digits", "--dataset.gate.few.threshold", "0"], "greater than or equal to 1"),
        (["inspect", "digits", "--dataset.gate.copies", "drop"], "--dataset.gate.copies is a group of settings"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("lamps")
def test_a_mistake_is_one_sentence_and_status_2(tokens: list[str], sentence: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["data", *tokens])
    assert left.value.code == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said


def test_a_list_that_cannot_be_understood_stops_inspection_with_its_line(
    lamps: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    file = tmp_path / "home/datasets/quarantine/lamps.csv"
    file.parent.mkdir(parents=True)
    file.write_text(f"sha256,decision\n{'0' * 64},maybe\n")
    for command in ("inspect", "quarantine"):
        with pytest.raises(SystemExit) as left:
            main(["data", command, str(lamps)])
        assert left.value.code == 2
        assert f"line 2 of {file} says 'maybe'; write keep, drop or label=NAME" in capsys.readouterr().err
