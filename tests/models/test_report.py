"""One page per run: complete, self-contained, safe with strangers' text, whole or absent."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.images import Images
from data.prepare import Dataset
from data.snapshot import Snapshot
from data.spec import DatasetSpec, ImageSpec
from data.split import Split
from data.validate import ClassCount, Finding, ValidationReport
from models.config import Experiment, TrainConfig
from models.evaluation import judged, report
from models.evaluation.conclusion import conclude
from models.evaluation.metrics import reliability, score
from models.evaluation.robustness import LEVELS, levels
from models.records import (
    Calibration,
    Checks,
    CVResult,
    DeadUnits,
    EpochRecord,
    FitSummary,
    FoldResult,
    Lineage,
    PixelStatistics,
    RunResult,
    Spectrum,
    TrainingFit,
)
from models.run import RunFolder
from models.verdict import Check, Verdict

CLASSES = ("daisy", "rose", "tulip")
EVIL = '<img src=x onerror="alert(1)">'
N = 30


def probabilities() -> tuple[np.ndarray, np.ndarray]:
    """(30, 3), five of them wrong; labels."""
    labels = np.arange(N) % 3
    predicted = np.where(np.arange(N) < 5, (labels + 1) % 3, labels)
    return np.where(np.eye(3)[predicted] == 1, 0.9, 0.05).astype(np.float32), labels


def history() -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=e,
            step=e + 1,
            lr=1e-3,
            train_loss=1 / (e + 1),
            val_loss=1 / (e + 1),
            val_accuracy=0.8,
            grad_norm=1.0,
            grad_norm_by_layer={"stem": 0.5, "<b>block</b>": 1e-6, "head": 0.0},
            seconds=1.0,
            images_per_s=10.0,
        )
        for e in range(6)
    ]


CHECKS = Checks(
    training=TrainingFit(n=100, accuracy=1.0, loss=0.01),
    dead=(DeadUnits(layer="<b>stem</b>", units=32, dead=30),),
    spectrum=Spectrum(
        n=64,
        parameters=98765,
        iterations=4,
        slope=0.1,
        largest=10.0,
        largest_error=0.1,
        smallest=-2.0,
        smallest_error=0.1,
        values=(-2.0, 0.0, 1.0, 10.0),
        weights=(0.1, 0.5, 0.3, 0.1),
    ),
)


def run_result(classes: tuple[str, ...] = CLASSES, *, url: str | None = None, folds: int = 0) -> RunResult:
    metrics = score(*probabilities(), classes)
    fits = tuple(FoldResult(fold=i, accuracy=0.8, n=10, epochs_run=3, seconds=61.0) for i in range(folds))
    return RunResult(
        run_id="20260101-000000-flowers-abc",
        experiment=Experiment(dataset=DatasetSpec(source="flowers.zip"), train=TrainConfig(epochs=77)),
        image=ImageSpec(height=16, width=16),
        statistics=PixelStatistics(mean=(0.5,) * 3, std=(0.2,) * 3),
        classes=classes,
        fit=FitSummary(
            epochs_planned=77,
            epochs_run=6,
            best_epoch=3,
            stopped_early=True,
            seconds=125.0,
            images_per_s=1234.0,
            parameters=98765,
            device="cpu",
            utilisation=0.315,
        ),
        validation=metrics,
        test=metrics,
        calibration=Calibration(temperature=1.4, ece_before=0.12, ece_after=0.02),
        crossval=CVResult(folds=fits, mean=0.8, std=0.01) if folds else None,
        lineage=Lineage(run_id="r", fingerprint="f" * 64, commit="c0ffee", flow_run_url=url),
        versions={"torch": "2.15.0"},
        flops=1_823_456_789,
        checks=CHECKS,
    )


def data_report(classes: tuple[str, ...] = CLASSES, message: str = "All is well.") -> ValidationReport:
    return ValidationReport(
        name="flowers",
        fingerprint="f" * 64,
        num_examples=90,
        num_unreadable=1,
        height=16,
        width=16,
        channels=3,
        classes=tuple(ClassCount(label=c, train=15, val=5, test=10) for c in classes),
        findings=(Finding(rule="r", level="warn", message=message),),
    )


def page(run: RunResult, **options: object) -> str:
    """With all figures, whose drawing is what takes time."""
    curves = reliability(*probabilities())
    given = {"history": history(), "data": data_report(run.classes), "after": curves, "before": curves, **options}
    return report.render(run, **given)  # type: ignore[arg-type]


def seen(html: str) -> str:
    """The text a reader sees."""
    words: list[str] = []
    parser = HTMLParser()
    parser.handle_data = words.append  # type: ignore[method-assign]
    parser.feed(html)
    return re.sub(r"\s+", " ", " ".join(words))


@pytest.fixture(scope="module")
def plain() -> str:
    return page(run_result())


@pytest.fixture(scope="module")
def bare() -> str:
    """Of a run of an older version that left no history, but folds and a link."""
    run = run_result(url="http://127.0.0.1:4200/runs/1", folds=3).model_copy(update={"checks": None})
    return report.render(run, history=[], data=data_report())


@pytest.fixture(scope="module")
def hostile() -> str:
    """Every text that a stranger may have written tries to be more than text."""
    classes = (EVIL, "</style><script>alert(1)</script>", "{{ 7 * 7 }}<!-- release --><!-- /release -->")
    pairs = tuple((f"rose/{i}.png", f"{EVIL}{i}.png") for i in range(12))
    copies = Finding(rule="duplicates", level="note", message="12 copied files within a class.", groups=pairs)
    data = data_report(classes, message=f"{EVIL} cannot be read.")
    mistake = report.Picture(file=EVIL, true=classes[0], predicted=classes[1], probability=0.9, jpeg=b"jpeg")
    return page(
        run_result(classes, url="javascript:alert(1)"),
        data=data.model_copy(update={"findings": (*data.findings, copies)}),
        mistakes=[mistake],
    )


def test_the_page_states_the_figures_of_the_run(plain):
    text = seen(plain)
    for figure in (
        "83.3",
        "66.4 % to 92.7 %",
        "30 pictures",
        "6 of 77",
        "2 min",
        "1,234 images/s",
        "31.5 %",
        "98,765",
        "1.82 GFLOPs",
        "c0ffee",
    ):
        assert figure in text
    assert "Stopped after 6 of 77 epochs" in text
    assert "All is well." in text


def verdict(*, promoted: bool, reason: str) -> Verdict:
    return Verdict(promoted=promoted, relation="first", reason=reason, n=N, challenger_accuracy=0.8)


def test_the_page_begins_with_what_the_model_is_how_good_and_what_to_try(plain, bare):
    first = seen(plain.partition("<main>")[2].partition("</section>")[0])
    assert "This cnn for the 3 classes of flowers is right on 83.3 % of 30 test pictures" in first
    assert "(95 % interval 66.4 % to 92.7 %)" in first
    assert "not decided when this page was written" in first
    assert "What to try next (Overfitting): more pictures" in first
    assert "asks for a change" in seen(bare)


@pytest.mark.slow
def test_the_release_puts_its_decision_into_the_page_and_a_later_one_replaces_it(tmp_path, hostile):
    file = tmp_path / "report.html"
    conclude(file, verdict(promoted=True, reason="First model."), "flowers@1")
    assert not file.exists()
    file.write_text(hostile)
    conclude(file, verdict(promoted=False, reason=f"Kept {EVIL}."), "flowers@2")
    text = seen(file.read_text())
    assert "it was not promoted ( flowers@2 )" in text
    assert f"Kept {EVIL}." in text
    assert "not decided" not in text
    conclude(file, verdict(promoted=True, reason="Better."), "flowers@2")
    text = seen(file.read_text())
    assert "it went into service as flowers@2 . Better." in text
    assert "not promoted" not in text


@pytest.mark.slow
def test_the_release_puts_its_checks_into_the_page_with_a_picture_of_worse_pictures(tmp_path, plain):
    file = tmp_path / "report.html"
    file.write_text(plain)
    assert "What was checked" not in seen(plain)
    right = np.ones((2, 40, len(LEVELS)), dtype=bool)
    right[0, :10, -1] = False
    checks = (
        Check(name="robustness", value=-0.25, limit=-0.05, ok=False, said=f"{EVIL} leaves 75.0 % right"),
        Check(name="size", value=1.2, limit=None, ok=None, said="the bundle has 1.20 MB"),
    )
    given = {"champion": "flowers@1", "checks": checks, "robustness": levels(right)}
    told = verdict(promoted=False, reason="Kept flowers@1.").model_copy(update=given)
    for _ in range(2):  # a later decision replaces an earlier one
        conclude(file, told, "flowers@2")
    text = seen(file.read_text())
    assert text.count("What was checked") == 1
    assert f"✗ robustness {EVIL} leaves 75.0 % right" in text.replace("  ", " ")
    assert "· size the bundle has 1.20 MB" in text
    assert "Right answers to worse pictures, of 40 test pictures" in text
    assert "brightness x 1.5 75.0 % 100.0 % 0.00098" in text
    assert "flowers@1" in text
    conclude(file, verdict(promoted=True, reason="Better."), "flowers@3")
    assert "What was checked" not in seen(file.read_text())


@pytest.mark.slow
def test_a_first_model_is_drawn_without_another():
    right = np.ones((1, 40, len(LEVELS)), dtype=bool)
    assert b"the champion" not in judged.robustness(levels(right), None)
    assert b"the champion" in judged.robustness(levels(np.concatenate([right, right])), None)


@pytest.mark.slow
def test_that_accuracy_while_training_is_not_that_of_the_model_as_exported_is_said(plain):
    said = "While training, validation pictures were answered"
    assert f"{said} in the precision of training: 80.0 % right in the kept epoch" in seen(plain)  # 83.3 % in the tile
    run = run_result().model_copy(update={"decided": {"train.precision": "bfloat16"}})
    given = {"history": history(), "data": data_report()}
    text = seen(report.render(run, **given))  # type: ignore[arg-type]
    assert f"{said} in bfloat16, which is faster: 80.0 % right" in text
    assert "as it is exported, in float32: 83.3 %." in text
    alike = [record.model_copy(update={"val_accuracy": 25 / 30}) for record in history()]
    assert said not in seen(page(run_result(), history=alike))


def test_copies_are_named_in_pairs_a_few_of_them(hostile):
    text = seen(hostile)
    assert f"rose/9.png = {EVIL}9.png" in text
    assert "and others" in text
    assert "rose/10.png" not in text


def test_each_finding_says_what_to_try_and_has_its_picture_once(plain):
    text = seen(plain)
    assert "Dead ReLUs: 30 of 32 units" in text
    assert "Saddle: the loss rises in some directions" in text
    assert "What to try: a lower learning rate, normalisation layers" in text
    assert plain.count('aria-label="Share of the units that never fire, by layer"') == 1
    assert plain.count('aria-label="Eigenvalues of the Hessian at the end"') == 1
    assert plain.count('aria-label="Learning curves"') == 2  # wide and narrow
    assert "<b>" not in plain.partition("<section>")[2].partition("</section>")[0]  # layers are strangers' names too


def test_the_page_asks_for_nothing_from_anywhere(plain):
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:|//|file:)""", plain)
    assert not re.search(r"url\(\s*[\"']?(?!#)|@import|<script|<link|<iframe|<object|<base", plain)
    assert "default-src 'none'" in plain


def test_hostile_names_are_text_and_nothing_else(hostile):
    tags: list[str] = []
    attributes: set[str] = set()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: (tags.append(tag), attributes.update(dict(attrs)))  # type: ignore
    parser.feed(hostile)
    assert "script" not in tags
    assert tags.count("img") == 1  # the mistake's own picture
    assert tags.count("style") == 1
    assert not [name for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in seen(hostile)


def test_a_link_that_is_no_web_address_is_left_out(hostile, bare):
    assert "javascript:" not in hostile
    assert 'href="http://127.0.0.1:4200/runs/1"' in bare
    assert "over 3 folds" in seen(bare)


def test_a_run_without_mistakes_or_history_still_has_a_page(bare):
    assert "There are none to show." in bare


def dataset_in(folder: Path) -> Dataset:
    """30 test pictures on disk, the second of them gone."""
    files = tuple(f"picture {row}.jpg" for row in range(N))
    for name in files:
        Image.new("RGB", (20, 12), "green").save(folder / name)
    (folder / files[1]).unlink()
    labels = np.arange(N) % 3
    snapshot = Snapshot("flowers", folder, CLASSES, files, labels, ("0" * 64,) * N, np.ones(N), (None,) * N, True)
    images = Images(snapshot, ImageSpec(height=16, width=16), np.arange(N), np.zeros((N, 16, 16, 3), np.uint8), ())
    none = np.empty(0, dtype=np.int64)
    return Dataset(images, Split(train=none, val=none, test=np.arange(N)), data_report())


@pytest.mark.slow
def test_a_finished_run_folder_gets_its_page_with_the_mistakes_as_pictures(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    (tmp_path / "pictures").mkdir()
    answers, labels = probabilities()
    logits = np.log(answers) * 1.4
    folder.write_predictions(
        {"test_logits": logits, "test_probabilities": answers, "test_labels": labels, "test_rows": np.arange(N)}
    )
    for record in history():
        folder.write_epoch(record)
    folder.write_result(run_result())
    written = report.write(folder, dataset_in(tmp_path / "pictures"))
    html = written.read_text()
    assert written == folder.report_file
    assert html.count("data:image/jpeg;base64,") == 4  # five mistakes, one of whose files is gone
    assert "cannot be shown" in html
    assert "picture 3.jpg" in html
    assert [file.name for file in folder.path.iterdir() if "part" in file.name] == []
