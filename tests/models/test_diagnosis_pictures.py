"""The pictures of the diagnosis: there where there is something to draw, readable with many layers, and whole."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from models.evaluation.diagnosis.pictures import TITLES, available
from models.evaluation.diagnosis.remark import Evidence
from models.evaluation.metrics import score
from models.records import Checks, DeadUnits, EpochRecord, FitSummary, Shift, Spectrum, Statistic, TrainingFit

METRICS = score(np.eye(3) * 0.7 + 0.1, np.arange(3), ("a", "b", "c"))


def same(name: str) -> Statistic:
    return Statistic(name=name, train=0.2, test=0.2, spread=0.0)


def run(epochs: int, *, layers: int = 5, checks: bool = True) -> Evidence:
    """The norms span ten powers of ten, and one is 0."""
    norms = dict(zip([f"$layer_{i}$ <x>" for i in range(layers)], np.logspace(-9, 1, layers), strict=True))
    norms[next(iter(norms), "none")] = 0.0
    history = [
        EpochRecord(
            epoch=e,
            step=e + 1,
            lr=0.1 / (e + 1),
            train_loss=1 / (e + 1),
            val_loss=1 / (e + 1),
            val_accuracy=0.5,
            grad_norm=1.0,
            seconds=1.0,
            images_per_s=1.0,
            grad_norm_by_layer=norms,
        )
        for e in range(epochs)
    ]
    fit = FitSummary(
        epochs_planned=max(epochs, 1),
        epochs_run=epochs,
        best_epoch=0,
        stopped_early=False,
        seconds=1.0,
        images_per_s=1.0,
        parameters=10,
        device="cpu",
    )
    spectrum = Spectrum(
        n=8,
        parameters=10,
        iterations=3,
        slope=0.0,
        largest=3.0,
        largest_error=0.0,
        smallest=-1.0,
        smallest_error=0.0,
        values=(-1.0, 0.0, 3.0),
        weights=(0.0, 0.5, 0.5),
    )
    dead = tuple(DeadUnits(layer=f"relu {i}", units=10, dead=i % 10) for i in range(layers))
    told = (Statistic(name="brightness", train=0.2, test=0.4, spread=0.1), same("contrast"), same("sharpness"))
    shift = Shift(n=30, separability=0.9, p_value=0.0, statistics=told)
    training = TrainingFit(n=1, accuracy=1.0, loss=0.0)
    measured = Checks(training=training, dead=dead, shift=shift, spectrum=spectrum)
    return Evidence(history, fit, METRICS, checks=measured if checks else None)


@pytest.mark.parametrize(("epochs", "layers"), [(1, 5), pytest.param(3, 200, marks=pytest.mark.slow)])
def test_every_picture_can_be_drawn(epochs: int, layers: int):
    drawn = available(run(epochs, layers=layers))
    assert drawn.keys() == TITLES.keys()
    for draw in drawn.values():
        ElementTree.fromstring(draw("svg"))
    assert Image.open(io.BytesIO(drawn["gradients"]("png"))).format == "PNG"


def test_what_was_not_recorded_is_not_drawn():
    assert available(run(3, checks=False)).keys() == {"curves", "rate", "gradients"}
    assert available(run(3, layers=0, checks=False)).keys() == {"curves", "rate"}
    assert available(run(0, checks=False)) == {}


def test_where_every_unit_fires_there_is_no_picture_of_dead_ones():
    alive = run(3, layers=1)  # the first layer has none
    assert alive.checks is not None
    assert alive.checks.dead
    assert "dead units" not in available(alive)
