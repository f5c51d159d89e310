"""The page about a model: the hub's own reader takes its head, and its ten lines answer as the service does."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from data.preprocess import to_pixels
from data.spec import ImageSpec
from models.bundle.bundle import Bundle
from models.bundle.page import card_page, front
from models.cards import Rehearsal
from models.config import ReleaseConfig
from models.evaluation.metrics import ClassMetrics
from models.records import ModelCard

BUNDLE = Path(__file__).parents[1] / "golden" / "bundle-v1"
CARD = ModelCard.model_validate_json((BUNDLE / "card.json").read_bytes())


def code(page: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", page, re.S)
    return str(found)


def test_the_hub_reads_its_head(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(card_page(CARD)).data
    assert (data.pipeline_tag, data.library_name, data.model_name) == (
        "image-classification",
        "onnx",
        f"digits@{CARD.version}",
    )
    assert {"onnx", "onnxruntime", "image-classification"} <= set(data.tags)
    figures = {result.metric_type: result.metric_value for result in data.eval_results}
    assert figures["accuracy"] == pytest.approx(CARD.test.accuracy, abs=1e-6)
    assert figures["f1"] == pytest.approx(CARD.test.macro_f1, abs=1e-6)
    assert {result.task_type for result in data.eval_results} == {"image-classification"}
    assert {result.dataset_revision for result in data.eval_results} == {CARD.lineage.fingerprint}


def licensed(given: str) -> ModelCard:
    release = ReleaseConfig(license=given).model_dump(mode="json")
    return CARD.model_copy(update={"experiment": {**CARD.experiment, "release": release}})


def test_the_head_names_the_licence_that_was_given(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = pytest.importorskip("huggingface_hub")
    for card, named in ((CARD, "other"), (licensed("other"), "other"), (licensed("cc-by-4.0"), "cc-by-4.0")):
        assert hub.ModelCard(card_page(card)).data.license == named
    assert "| licence | CC-BY-4.0 |" in card_page(licensed("cc-by-4.0"))
    assert "| licence | none was named; ask whoever gave it to you |" in card_page(CARD)


@pytest.mark.parametrize(("given", "known"), [("apache-2.0", "Apache-2.0"), ("MIT", "MIT"), ("Other", "other")])
def test_a_licence_is_spelt_as_spdx_spells_it(given, known):
    assert ReleaseConfig(license=given).license == known


@pytest.mark.parametrize("given", ["", "Appache-2.0", "MIT OR Apache-2.0", "MIT\nmodel-index: []", "GPL-3.0+ WITH x"])
def test_what_is_no_licence_is_refused_with_a_remedy(given):
    with pytest.raises(ValidationError, match="is no licence that SPDX lists; give one of its names, such as"):
        ReleaseConfig(license=given)


def test_it_has_the_service_and_every_way_to_ask_and_says_where_the_verdict_is():
    card = Bundle.open(BUNDLE.with_name("bundle-v2")).card
    found = Rehearsal(fault=None, p50_ms=4.0, p95_ms=6.5)
    page = card_page(card.model_copy(update={"rehearsal": found}))
    assert "took 4.0 ms for a request of one picture, over HTTP (95 of 100: 6.5 ms)" in page
    for way in card.parity.ways:
        assert way.name == "onnx" or f"- {way.title}, over {way.n:,}: within" in page
    assert f"`trainserve models show digits@{card.version}` tells the verdict" in page
    failed = card_page(card.model_copy(update={"rehearsal": Rehearsal(fault="took 7.1 s")}))
    assert "**As a service.** The service on it took 7.1 s." in failed


def test_it_has_a_chapter_for_each_question_of_a_reader_outside():
    page = card_page(CARD)
    chapters = re.findall(r"^## (.*)$", page, re.M)
    assert chapters == [
        "Intended use",
        "Classes",
        "Data",
        "Figures",
        "Limits",
        "How to run it",
        "Where it comes from",
    ]
    for words in ("98.1 %", "95.7 % to 99.2 %", "270", CARD.lineage.fingerprint, CARD.lineage.run_id, "**Parity.**"):
        assert words in page


def test_limits_name_the_class_it_knows_worst_and_those_of_few_pictures():
    page = card_page(CARD)
    assert "- It knows 9 worst: it finds 88.9 % of 27 test pictures." in page
    assert "Under 30 test pictures, so that little is known of them: 0 (27), 1 (27)" in page


def test_class_names_are_never_markdown_and_never_end_a_row():
    nasty = "a|b\n<script>*x*"
    one = ClassMetrics(label=nasty, support=99, precision=1, recall=1, f1=1)
    page = card_page(CARD.model_copy(update={"test": CARD.test.model_copy(update={"per_class": (one,)})}))
    assert r"| a\|b &lt;script&gt;\*x\* | 99 | 100.0 % | 100.0 % | 100.0 % |" in page.splitlines()


def test_a_name_that_yaml_would_read_as_something_else_stays_a_text():
    yaml = pytest.importorskip("yaml")
    head = card_page(CARD.model_copy(update={"name": "1e3", "kind": "no"})).split("---\n")[1]
    assert yaml.safe_load(head) == front(CARD.model_copy(update={"name": "1e3", "kind": "no"}))


def test_its_ten_lines_answer_the_golden_pictures_as_training_did(monkeypatch, capsys):
    bundle, lines = Bundle.open(BUNDLE), code(card_page(CARD, files=str(BUNDLE)))
    assert len(lines.strip().splitlines()) <= 10
    opaque = [sample for sample in bundle.golden.samples if sample.kind != "rgba"]
    assert {sample.kind for sample in opaque} == {"plain", "turned", "grey", "wide"}
    for sample in opaque:
        monkeypatch.setattr(sys, "argv", ["classify.py", str(BUNDLE / "golden" / sample.file)])
        exec(lines, {})  # what a reader would type
        label, probability = capsys.readouterr().out.split()
        best = int(np.argmax(sample.probabilities))
        assert label == CARD.classes[best]
        assert float(probability) == pytest.approx(sample.probabilities[best], abs=bundle.golden.tolerance)


def picture(size: tuple[int, int], mode: str) -> bytes:
    stream = io.BytesIO()
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    values = np.random.default_rng(sum(size)).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(values).save(stream, format="PNG")
    return stream.getvalue()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(("channels", "margin"), [(1, 0), (3, 0), (3, 2)])
def test_its_lines_make_the_pixels_of_the_service_whatever_the_geometry(tmp_path, monkeypatch, fit, channels, margin):
    spec = ImageSpec(height=16, width=12, channels=channels, margin=margin, fit=fit)
    lines = code(card_page(CARD.model_copy(update={"image": spec}), files=str(BUNDLE)))
    geometry = lines.partition("(answer,)")[0]
    for number, size in enumerate([(40, 24), (33, 57), (12, 16), (91, 16), (5, 7), (47, 64)]):
        for mode in ("L", "RGB"):
            (tmp_path / f"{number}.png").write_bytes(picture(size, mode))
            monkeypatch.setattr(sys, "argv", ["classify.py", str(tmp_path / f"{number}.png")])
            names: dict[str, np.ndarray] = {}
            exec(geometry, names)
            assert np.array_equal(names["pixels"][0], to_pixels(tmp_path / f"{number}.png", spec)), (size, mode)
