"""Versions of the toy whose answers tell them apart, and candidates that must never answer."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import toy

from data.preprocess import to_pixels
from data.spec import ImageSpec
from models.bundle import manifest
from serving import store
from serving.refs import ModelRef

GREY = toy.picture(120)


def good(folder: Path, number: int) -> ModelRef:
    """toy@g<number>, stored."""
    version = f"g{number}"
    return store.save(toy.bundle(folder / version, version=version, threshold=threshold(number)))


def threshold(number: int) -> float:
    return 100 + 2.0 * number


def right(model: str) -> float:
    """What toy@g<number> says of `GREY`: the probability of "bright"."""
    pixels = to_pixels(GREY, ImageSpec(height=16, width=16))[np.newaxis]
    return float(toy.probabilities(pixels, threshold(int(model.removeprefix("toy@g"))))[0, 0])


def is_right(answer: dict[str, object]) -> bool:
    """Whether the version that an answer names would have said so."""
    scores = answer["scores"]
    assert isinstance(scores, list)
    said = {score["label"]: score["probability"] for score in scores}
    return abs(said["bright"] - right(str(answer["model"]))) < 1e-3  # versions are 0.02 apart or more


def _tampered(bundle: Path) -> None:
    model = bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")


def _half(bundle: Path) -> None:
    model = bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:200])
    manifest.write(bundle)


def _without_a_card(bundle: Path) -> None:
    (bundle / "card.json").unlink()


def _another_model(bundle: Path) -> None:
    """Whole and signed, but not the one that its golden answers are from."""
    other = toy.bundle(bundle.parent / "other", version="other", threshold=200)
    shutil.copy(other / "model.onnx", bundle / "model.onnx")
    shutil.rmtree(other)
    manifest.write(bundle)


def _of_another_name(bundle: Path) -> None:
    card = bundle / "card.json"
    card.write_text(card.read_text().replace('"toy"', '"joy"'))
    manifest.write(bundle)


BAD: tuple[Callable[[Path], None], ...] = (_tampered, _half, _without_a_card, _another_model, _of_another_name)


def bad(folder: Path, number: int) -> ModelRef:
    """toy@b<number>, stored, and then broken in the way of this number."""
    version = f"b{number}"
    ref = store.save(toy.bundle(folder / version, version=version, threshold=20))
    BAD[number](store.path(ref))
    return ref
