"""What a report, the terminal and the Prefect UI say of the exported model."""

from pathlib import Path

import pytest

from flows import proof
from models.bundle.bundle import read_card
from models.cards import ClassParity, ModelCard, Parity, Rehearsal, Way
from models.evaluation import exported

GOLDEN = Path(__file__).parents[1] / "golden"
EVIL = "<script>alert(1)</script>"
PASSED = Rehearsal(
    fault=None,
    started_s=3.2,
    golden_difference=1e-7,
    requests=200,
    p50_ms=1.9,
    p95_ms=2.7,
    overload={"200": 31, "429": 402},
    stopped_s=0.8,
)


def card(rehearsal: Rehearsal | None = None, *, changed: int = 0) -> ModelCard:
    per_class = (ClassParity(label=EVIL, n=9, largest_difference=2e-7, changed_answers=changed),)
    figures = {"n": 9, "largest_difference": 2e-7, "changed_answers": changed, "per_class": per_class}
    ways = tuple(Way(name=name, **figures) for name in ("trained", "onnx", "http"))
    made = read_card(GOLDEN / "bundle-v1")
    parity = Parity(n=9, largest_difference=2e-7, changed_answers=changed, ways=ways)
    return made.model_copy(update={"parity": parity, "rehearsal": rehearsal})


def test_the_figures_are_put_into_a_written_report_and_later_ones_replace_them(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    exported.conclude(page, card())
    assert not page.exists()
    page.write_text(f"before {exported.section(None)} after")
    assert "not been exported" in page.read_text()
    for rehearsal, said in ((None, "over HTTP"), (PASSED, "402 times"), (Rehearsal(fault="was ill"), "it was ill.")):
        exported.conclude(page, card(rehearsal))
        text = page.read_text()
        assert said in text
        assert text.startswith("before ")
        assert text.endswith(" after")
        assert text.count("<table>") == 1
        assert "not been exported" not in text
    assert "402 times" not in text


def test_the_name_of_a_class_is_text_and_nothing_else() -> None:
    text = exported.section(card(PASSED))
    assert EVIL not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (card(), "9 test pictures answered alike, over HTTP too, within 2e-07"),
        (card(PASSED, changed=1), "within 2e-07, 1 answers changed; 1.9 ms a request, 2.7 at the 95th percentile"),
        (card(Rehearsal(fault="was ill")), "within 2e-07; the service on it was ill"),
        (read_card(GOLDEN / "bundle-v1"), "270 test pictures answered alike, within"),
    ],
)
def test_the_terminal_is_told_in_one_clause(made: ModelCard, said: str) -> None:
    assert said in proof.told(made)


def test_the_prefect_ui_shows_each_way_and_a_sentence_about_the_service() -> None:
    rows = proof.parity_rows(card(PASSED))
    assert [(row["asked"], row["in class"]) for row in rows][2] == ("a service on it, over HTTP", EVIL)
    assert "answered 31 with 200, 402 with 429 while it was overloaded" in proof.rehearsal_said(card(PASSED))
    assert proof.rehearsal_said(card()) == ""
