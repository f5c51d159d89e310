"""Figures: whole, the same for the same input, safe with any class name, from any thread."""

import io
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from models.evaluation import plots
from models.evaluation.metrics import Metrics, reliability, score
from models.records import EpochRecord

HOSTILE = ("$x^2$", "a$b\\frac{", '<script>alert("1")</script>&\x00\n日本🌷', "x" * 300)


def history(epochs: int) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=e,
            step=e + 1,
            lr=1e-3,
            train_loss=1 / (e + 1),
            val_loss=1.1 / (e + 1),
            val_accuracy=1 - 0.5 / (e + 1),
            grad_norm=1.0,
            seconds=1.0,
            images_per_s=1.0,
        )
        for e in range(epochs)
    ]


def answers(num_classes: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % num_classes
    scores = np.exp(rng.normal(size=(n, num_classes)) + 3 * np.eye(num_classes)[labels])
    return scores / scores.sum(axis=1, keepdims=True), labels


def measured(classes: tuple[str, ...]) -> Metrics:
    return score(*answers(len(classes)), classes)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(count))


def texts(svg: bytes) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.slow
def test_the_curves_mark_the_epoch_that_was_kept():
    assert "kept: epoch 8, 93.8 %" in texts(plots.learning_curves(history(10), best_epoch=7))


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_curves_of_hardly_any_epochs_are_drawn(epochs):
    assert plots.learning_curves(history(epochs), best_epoch=0 if epochs else None)


def test_the_axis_of_a_single_epoch_says_1_and_its_accuracy_is_seen_on_the_whole_scale():
    shown = texts(plots.learning_curves(history(1), best_epoch=0))
    losses = {float(text) for text in shown if text.replace(".", "").isdigit() and float(text) < 10}
    assert 0 in losses
    assert max(losses) > 1.1  # above both points, so that neither is cut
    assert shown.count("1") == 2
    assert {"0", "100"} <= set(shown)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [2, 10])
def test_the_name_of_the_last_epoch_stands_to_the_left_of_its_line(epochs):
    svg = plots.learning_curves(history(epochs), best_epoch=epochs - 1)
    name = next(t for t in ElementTree.fromstring(svg).iter() if (t.text or "").startswith("kept: "))
    assert "text-anchor: end" in name.get("style", "")


@pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_a_confusion_matrix_can_be_drawn_for_any_number_of_classes(count):
    svg = plots.confusion(measured(names(count)))
    assert "class 0" in texts(svg)
    assert len(svg) < 300_000


def test_a_confusion_matrix_shows_its_counts():
    counts = measured(names(3)).confusion
    assert str(counts[0][0]) in texts(plots.confusion(measured(names(3))))


@pytest.mark.slow
def test_class_bars_put_the_weakest_first_and_stop_at_forty():
    assert len([t for t in texts(plots.class_bars(measured(names(60)))) if t.startswith("class ")]) == 40


@pytest.mark.slow
def test_the_reliability_diagram_names_both_errors():
    probabilities, labels = answers(4)
    after, before = reliability(probabilities, labels), reliability(probabilities**3, labels)
    shown = " ".join(texts(plots.reliability(after, before=before)))
    assert f"after calibration, error {100 * after.error:.1f}" in shown
    assert f"before calibration, error {100 * before.error:.1f}" in shown


@pytest.mark.slow
@pytest.mark.parametrize("draw", [plots.confusion, plots.class_bars])
def test_hostile_class_names_are_drawn_as_they_are_and_break_nothing(draw):
    svg = draw(measured(HOSTILE))
    shown = " ".join(texts(svg))  # parses as XML
    assert "$x^2$" in shown
    assert b"<script" not in svg
    assert Image.open(io.BytesIO(draw(measured(HOSTILE), fmt="png"))).format == "PNG"


def test_a_contact_sheet_shows_pictures_of_many_shapes_and_those_that_are_missing():
    files = []
    for size in ((160, 3), (3, 160), (1, 1)):
        out = io.BytesIO()
        Image.new("RGB", size, "red").save(out, "JPEG")
        files.append(out.getvalue())
    sheet = plots.contact_sheet([*((file, "rose 91 %\nis $tulip$") for file in files), (None, "gone")])
    assert Image.open(io.BytesIO(sheet)).format == "PNG"


@pytest.mark.slow
def test_the_same_values_give_the_same_bytes_from_any_thread():
    expected = plots.learning_curves(history(5), best_epoch=3)
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(lambda _: plots.learning_curves(history(5), best_epoch=3), range(2))) == {expected}


def test_drawing_leaves_matplotlibs_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.class_bars(measured(names(3)))
    assert dict(matplotlib.rcParams) == before
