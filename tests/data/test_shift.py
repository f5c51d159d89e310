"""Test pictures of another kind are told from training pictures; the same kind is not."""

import numpy as np
import pytest

from data.gate.shift import alike, compare, statistics


def pictures(n: int, seed: int) -> np.ndarray:
    """uint8 (n, 16, 16, 3), half of them bright."""
    random = np.random.default_rng(seed)
    level = np.where(np.arange(n) % 2, 160.0, 90.0)[:, None, None, None]
    return (level + random.normal(0, 40, (n, 16, 16, 3))).clip(0, 255).astype(np.uint8)


def blurred(pixels: np.ndarray) -> np.ndarray:
    wide = pixels.astype(np.float32)
    return ((wide + np.roll(wide, 1, 1) + np.roll(wide, 1, 2) + np.roll(wide, (1, 1), (1, 2))) / 4).astype(np.uint8)


@pytest.mark.slow
def test_pictures_of_the_same_kind_are_not_told_apart():
    chances = [compare(statistics(pictures(200, seed)), statistics(pictures(60, seed + 100))) for seed in range(5)]
    assert all(found.separability < 0.65 for found in chances)
    assert all(found.p_value > 1e-3 for found in chances)


@pytest.mark.parametrize(
    ("change", "statistic"),
    [
        (lambda pixels: (0.5 * pixels).astype(np.uint8), "brightness"),
        (blurred, "sharpness"),
        (lambda pixels: np.repeat(pixels.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8), "colourfulness"),
    ],
    ids=["darker", "blurred", "grey"],
)
def test_darker_blurred_or_grey_pictures_are(change, statistic: str):
    found = compare(statistics(pictures(200, 0)), statistics(change(pictures(60, 1))))
    assert found.separability > 0.9
    assert found.p_value < 1e-6
    assert abs({s.name: s.difference for s in found.statistics}[statistic]) > 1
    assert found.n == 60


def test_another_mixture_of_classes_is_no_other_kind_of_picture():
    labels = np.repeat([0, 1, 0, 1], [90, 10, 5, 45])
    rows = np.arange(150)
    train, test = alike(labels, rows[:100], rows[100:], limit=1000)
    assert np.array_equal(np.bincount(labels[train]), np.bincount(labels[test]))
    assert len(set(train) | set(test)) == len(train) + len(test) == 30
