"""How strange a picture is to a model: the energy of its logits, in evaluation and in the exported graph the same."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from data.spec import ImageSpec
from models.bundle import session
from models.bundle.bundle import Bundle
from models.bundle.graph import WithEnergy, calibrated, to_onnx
from models.bundle.halve import halved
from models.bundle.manifest import BundleError
from models.bundle.quantise import Quantiser
from models.bundle.searching import RECIPES
from models.bundle.slim import slimmed
from models.evaluation import strangers
from models.evaluation.outliers import energy, outliers
from models.mirror import Mirrored
from models.strangeness import unfamiliar
from tests.models.bundles import CLASSES, IMAGE, TEMPERATURE, Tiny, toy_images
from tests.models.conftest import toy_dataset
from tests.models.quantised import seen

GOLDEN = Path(__file__).parents[1] / "golden"


def noise(num: int) -> np.ndarray:
    shape = (num, IMAGE.height, IMAGE.width, IMAGE.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_energy_is_low_where_some_class_speaks_up():
    logits = np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [10.0, 10.0, 10.0]])
    np.testing.assert_allclose(energy(logits), [-math.log(3), -10.00009, -10 - math.log(3)], atol=1e-5)


def test_what_lies_beyond_all_test_pictures_is_told_apart():
    own = np.linspace(-10, -5, 201)
    found = outliers(own, {"far": np.full(50, 3.0), "the same": own, "closer": np.full(50, -20.0)})
    assert found is not None
    assert found.n == 201
    assert len(found.quantiles) == 101
    assert found.threshold == pytest.approx(-5.25)
    assert [(one.auroc, one.above) for one in found.strangers] == [(1, 1), (0.5, pytest.approx(10 / 201)), (0, 0)]
    assert "far 1.00 (100.0 %), the same 0.50 (5.0 %), closer 0.00 (0.0 %)" in found.said


def test_energies_that_are_no_numbers_say_nothing():
    assert outliers(np.array([1.0, np.nan]), {}) is None
    assert outliers(np.array([1.0, 2.0]), {"noise": np.array([np.inf])}) is None
    assert outliers(np.empty(0), {}) is None


@pytest.mark.slow
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=300), st.floats(-60, 60))
def test_unfamiliar_is_the_share_of_pictures_that_are_no_stranger(energies: list[float], asked: float):
    found = outliers(np.array(energies), {})
    assert found is not None
    share = np.mean(np.array(energies) <= asked)
    said = unfamiliar(found.quantiles, asked)
    assert 0 <= said <= 1
    if len(energies) >= 100:
        assert abs(said - share) <= 0.021
    assert unfamiliar(found.quantiles, max(energies)) == 1
    assert unfamiliar(found.quantiles, min(energies) - 1) == 0


def test_one_picture_in_twenty_is_at_95_hundredths_or_above():
    own = np.random.default_rng(0).normal(size=4_000)
    found = outliers(own, {})
    assert found is not None
    assert np.mean([unfamiliar(found.quantiles, one) >= 0.95 for one in own]) == pytest.approx(0.05, abs=0.001)


@pytest.mark.slow
def test_strangers_are_pictures_as_the_network_sees_them_and_always_the_same_ones(tmp_path: Path):
    for images in (toy_images(tmp_path), toy_dataset().images):
        spec, rows = images.spec, np.arange(len(images.labels))[::2]
        found = strangers.made(images, rows)
        assert list(found) == list(strangers.KINDS)
        for name, pixels in found.items():
            assert pixels.dtype == np.uint8
            assert pixels.shape == (len(rows), spec.height, spec.width, spec.channels), name
            np.testing.assert_array_equal(pixels, strangers.made(images, rows)[name])


def test_shuffled_patches_keep_every_pixel():
    images = toy_dataset().images
    shuffled = strangers.made(images, np.array([5]))["test pictures in shuffled patches"][0]
    own = images.pixels[5]
    assert not np.array_equal(shuffled, own)
    np.testing.assert_array_equal(np.sort(shuffled.reshape(-1, 3), axis=0), np.sort(own.reshape(-1, 3), axis=0))


def test_digits_are_no_strangers_to_digits():
    images = toy_dataset().images
    of_digits = images.snapshot.__class__(**{**vars(images.snapshot), "classes": ("3", "7")})
    found = strangers.made(images.__class__(**{**vars(images), "snapshot": of_digits}), np.arange(4))
    assert "handwritten digits" not in found


@pytest.mark.parametrize(
    "wrapped", [lambda net: net, pytest.param(Mirrored, marks=pytest.mark.slow)], ids=["plain", "mirrored"]
)
def test_the_graph_gives_the_energy_of_the_network(wrapped):
    net = wrapped(Tiny().eval())
    graph = session.connect(to_onnx(calibrated(net, TEMPERATURE), IMAGE, tolerance=1e-4))
    assert session.has_energy(graph)
    session.check_signature(graph, image=IMAGE, num_classes=len(CLASSES))
    for n in (1, 5):
        answers, energies = session.answer_with_energy(graph, noise(n))
        np.testing.assert_array_equal(answers, session.answer(graph, noise(n)))
        with torch.inference_mode():
            expected = energy(net(torch.from_numpy(noise(n))).numpy())
        np.testing.assert_allclose(energies, expected, atol=1e-4)


@pytest.mark.slow
def test_a_slimmed_graph_keeps_it():
    raw = to_onnx(calibrated(Tiny().eval(), TEMPERATURE), IMAGE, tolerance=1e-4)
    lean, _ = slimmed(raw, lambda _: None)
    before, after = (session.answer_with_energy(session.connect(one), noise(3))[1] for one in (raw, lean))
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.slow
def test_graphs_in_fewer_bits_give_nearly_the_same(tmp_path: Path):
    raw = to_onnx(calibrated(Tiny().eval(), TEMPERATURE), IMAGE, tolerance=1e-4)
    quantiser = Quantiser(raw, seen(toy_images(tmp_path / "pictures")).calibration, tmp_path)
    pixels = next(seen(toy_images(tmp_path / "again")).test.batches())
    _, expected = session.answer_with_energy(session.connect(raw), pixels)
    for graph, near in ((halved(raw), 0.01), (quantiser.make(RECIPES[0]), 0.1)):
        answering = session.connect(graph)
        session.check_signature(answering, image=IMAGE, num_classes=len(CLASSES))
        _, found = session.answer_with_energy(answering, pixels)
        assert np.abs(found - expected).max() < near * np.ptp(expected)


def test_the_temperature_does_not_change_it():
    """It is of the logits as they are, so that calibrating a model again leaves its strangers alone."""
    pixels = torch.from_numpy(noise(3))
    with torch.inference_mode():
        one, other = (WithEnergy(calibrated(Tiny().eval(), t))(pixels)[1] for t in (1.0, 3.0))
    torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_a_graph_with_another_second_output_is_refused():
    class Twice(nn.Module):
        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            answers = pixels.float().mean(dim=(1, 2))
            return answers, answers

    image = ImageSpec(height=4, width=4)
    program = torch.onnx.export(
        Twice().eval(),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8),),
        dynamo=True,
        verbose=False,
        input_names=["pixels"],
        output_names=["probabilities", "energy"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    assert program is not None
    graph = session.connect(program.model_proto.SerializeToString())
    with pytest.raises(BundleError, match="its card says"):
        session.check_signature(graph, image=image, num_classes=3)


@pytest.mark.parametrize("name", ["bundle-v1", "bundle-v2"])
def test_a_bundle_of_before_has_none_and_answers_as_ever(name: str):
    bundle = Bundle.open(GOLDEN / name)
    assert not bundle.has_energy
    assert bundle.classify(bundle.golden.files[0]).unfamiliar is None
