"""Runs made to be ill, through the real training loop on small pictures, and what each must be told."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from data.images import Images
from data.loader import Pictures, eval_batches
from data.snapshot import Snapshot
from data.spec import AugmentConfig, ImageSpec
from data.split import Split
from models.config import DiagnoseConfig, Experiment, TrainConfig
from models.evaluation.diagnose import diagnose
from models.evaluation.diagnosis.measure import measure
from models.evaluation.diagnosis.remark import Evidence, Peer, Remark
from models.evaluation.evaluate import fit_temperature, probabilities
from models.evaluation.inference import logits_of
from models.evaluation.metrics import Metrics, score
from models.pixels import Pixels
from models.training.config import AdamWConfig
from models.training.learn import Learner, learner_for, run_fit
from models.zoo.config import CNNConfig

pytestmark = pytest.mark.slow  # each is a training; tests/models/test_diagnose.py has the rules on made-up values

UNCHANGED = AugmentConfig(crop=0, zoom=0, flip=False, erase=0, color=0, mixup=0, cutmix=0)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (1797, 8, 8, 1), labels; mixed, since they come writer by writer."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    return (found.images * 15.9).astype(np.uint8)[order, ..., None], found.target.astype(np.int64)[order]


def images_of(pixels: np.ndarray, labels: np.ndarray) -> Images:
    n = len(labels)
    snapshot = Snapshot(
        name="ill",
        root=Path("nowhere"),
        classes=tuple(f"class {k}" for k in range(labels.max() + 1)),
        files=tuple(f"{row}.png" for row in range(n)),
        labels=labels,
        digests=tuple(f"{row:064x}" for row in range(n)),
        sizes=np.ones(n, dtype=np.int64),
        parts=(None,) * n,
        mirror=False,
    )
    spec = ImageSpec(height=pixels.shape[1], width=pixels.shape[2], channels=pixels.shape[3])
    return Images(snapshot=snapshot, spec=spec, rows=np.arange(n), pixels=pixels, unreadable=())


def split(train: int, val: int, test: int) -> Split:
    rows = np.arange(train + val + test)
    return Split(train=rows[:train], val=rows[train : train + val], test=rows[train + val :])


def trained(images: Images, parts: Split, layers: Sequence[nn.Module] | None = None, **settings) -> dict[str, Remark]:
    """What is said of a run of these `layers`, or of the smallest CNN."""
    return said_of(evidence(images, parts, layers, **settings))


def said_of(run: Evidence) -> dict[str, Remark]:
    return {remark.kind: remark for remark in diagnose(run)}


def evidence(
    images: Images,
    parts: Split,
    layers: Sequence[nn.Module] | None = None,
    *,
    lr: float = 3e-3,
    augment: AugmentConfig = UNCHANGED,
    diagnosed: DiagnoseConfig = DiagnoseConfig(),  # noqa: B008
    **train: object,
) -> Evidence:
    experiment = Experiment(
        model=CNNConfig(width=8),
        optimizer=AdamWConfig(lr=lr),
        augment=augment,
        diagnose=diagnosed,
        train=TrainConfig(**{"epochs": 6, "batch_size": 50, "devices": "cpu", "ema": None} | train),
    )
    pictures = Pictures(images.pixels)
    learner = learner_for(experiment, images, pictures, train=parts.train, val=parts.val, seed=0)
    if layers is not None:
        net = nn.Sequential(Pixels(images.spec, learner.statistics), *layers)
        learner = Learner(net, learner.batches, learner.statistics, learner.validate)
    result = run_fit(experiment, learner)
    learner.net.load_state_dict(result.weights)

    def logits(rows: np.ndarray) -> np.ndarray:
        seen = eval_batches(pictures, images.labels, rows, batch_size=256, image=images.spec)
        return logits_of(learner.net, seen)[0].numpy()

    def figures(rows: np.ndarray) -> Metrics:
        return score(probabilities(logits(rows), temperature=temperature), images.labels[rows], images.classes)

    temperature = fit_temperature(logits(parts.val), images.labels[parts.val])
    checks = measure(learner.net, pictures, images, parts, temperature=temperature, experiment=experiment, at_once=256)
    return Evidence(result.history, result.summary, figures(parts.val), test=figures(parts.test), checks=checks)


def warnings(remarks: dict[str, Remark]) -> set[str]:
    return {kind for kind, remark in remarks.items() if remark.level == "warning"}


MIXED = AugmentConfig(crop=1, flip=False, mixup=0.4, cutmix=1.0)  # the loop's loss ends at two thirds of guessing


@pytest.mark.parametrize("augment", [UNCHANGED, MIXED], ids=["plain", "mixup"])
def test_a_healthy_run_raises_no_warning(augment: AugmentConfig):
    images = images_of(*digits())
    found = trained(
        images,
        split(1200, 300, 297),
        augment=augment,
        epochs=12,
        lr=1e-2,
    )
    assert warnings(found) == set()
    assert "healthy" in found
    assert "underfitting" not in found
    assert found["dead units"].level == "fine"


def plain_network() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)]


def test_the_curvature_is_told_if_asked_for():
    asked = DiagnoseConfig(hessian=True, hessian_pictures=100, hessian_iterations=12)
    found = trained(images_of(*digits()), split(300, 100, 100), plain_network(), epochs=2, diagnosed=asked)
    assert {"minimum", "saddle"} & found.keys()


def test_a_rate_that_is_too_high_is_named():
    found = trained(images_of(*digits()), split(600, 100, 100), plain_network(), lr=0.5)
    assert "rate too high" in warnings(found)
    assert "rate too low" not in found


@pytest.mark.parametrize("lr", [2e-5, 2e-6])
def test_a_rate_that_is_too_low_is_named(lr: float):
    found = trained(images_of(*digits()), split(600, 100, 100), lr=lr, epochs=7)
    assert "rate too low" in warnings(found)
    assert not warnings(found) & {"rate too high", "vanishing gradients", "exploding gradients", "overfitting"}


def test_a_net_too_small_for_its_task_underfits():
    """Three bits make eight classes; two of them are the parity of two corners, which no linear map can tell."""
    random = np.random.default_rng(0)
    corners = random.integers(0, 2, (900, 5))
    labels = corners[:, 0] + 2 * (corners[:, 1] ^ corners[:, 2]) + 4 * (corners[:, 3] ^ corners[:, 4])
    pixels = random.normal(100, 10, (900, 5, 4, 1)) + 60 * corners[:, :, None, None]
    images = images_of(pixels.clip(0, 255).astype(np.uint8), labels)
    found = trained(images, split(500, 200, 200), [nn.Flatten(), nn.Linear(20, 8)], lr=0.03)
    assert "underfitting" in warnings(found)
    assert not found.keys() & {"overfitting", "not learning"}


def as_peer(run: Evidence, *, run_id: str, kind: str) -> Peer:
    assert run.checks is not None
    return Peer(run_id, kind, run.fit.parameters, run.checks.training)


def test_a_deep_net_that_learns_less_than_softmax_regression_has_trouble_with_its_optimisation():
    """Three layers of sigmoids could say all that one without them says, but hardly set out."""
    images, parts = images_of(*digits()), split(600, 200, 200)
    torch.manual_seed(0)
    small = evidence(images, parts, [nn.Flatten(), nn.Linear(64, 10)], lr=1e-2)
    hidden = [layer for _ in range(3) for layer in (nn.Linear(64, 64), nn.Sigmoid())]
    large = evidence(images, parts, [nn.Flatten(), *hidden, nn.Linear(64, 10)], epochs=12)
    assert "underfitting" in warnings(said_of(large))
    found = said_of(replace(large, peers=[as_peer(small, run_id="small", kind="softmax")]))
    assert "optimisation trouble" in warnings(found)
    assert "underfitting" not in found
    assert "the smaller softmax of run small reached" in found["optimisation trouble"].text
    assert "with 650 weights instead of 13,130" in found["optimisation trouble"].text
    healthy = said_of(replace(small, peers=[as_peer(large, run_id="large", kind="mlp")]))
    assert not healthy.keys() & {"underfitting", "optimisation trouble"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_labels_learnt_by_heart_are_overfitting(seed: int):
    """Half of the validation pictures are training pictures once more, so that the epoch kept is a late one: without
    them chance decides which it is, and an early one has not learnt by heart yet."""
    random = np.random.default_rng(seed)
    pixels, labels = random.integers(0, 256, (200, 8, 8, 1), dtype=np.uint8), random.integers(0, 4, 200)
    pixels[60:110], labels[60:110] = pixels[:50], labels[:50]
    images, parts = images_of(pixels, labels), split(60, 100, 40)
    found = trained(images, parts, epochs=25, batch_size=20, label_smoothing=0, lr=1e-2, patience=24, seed=seed)
    assert "overfitting" in warnings(found)
    assert not found.keys() & {"not learning", "underfitting"}


def deep(activation: type[nn.Module], *, gain: float) -> list[nn.Module]:
    torch.manual_seed(0)
    sizes = [64, *[32] * 8, 10]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation()]
        nn.init.normal_(layers[-2].weight, std=gain / fan_in**0.5)
    return layers[:-1]


def test_a_deep_stack_of_sigmoids_has_vanishing_gradients():
    found = trained(images_of(*digits()), split(400, 100, 100), deep(nn.Sigmoid, gain=0.5), epochs=4)
    assert "vanishing gradients" in warnings(found)
    assert "exploding gradients" not in found
    assert found["vanishing gradients"].picture == "gradients"


def test_a_deep_stack_with_too_large_weights_has_exploding_gradients():
    found = trained(images_of(*digits()), split(400, 100, 100), deep(nn.ReLU, gain=5.0), lr=1e-4, epochs=4)
    assert "exploding gradients" in warnings(found)
    assert "vanishing gradients" not in found


def test_relus_pushed_below_zero_are_dead():
    first = nn.Linear(64, 40)
    first.bias.data[:30] = -100.0
    layers = [nn.Flatten(), first, nn.ReLU(), nn.Linear(40, 10)]
    found = trained(images_of(*digits()), split(400, 100, 100), layers)
    assert "dead units" in warnings(found)
    assert "of 40 units (7" in found["dead units"].text


def test_a_dozen_validation_pictures_are_too_few_to_tell():
    found = trained(images_of(*digits()), split(800, 12, 200), epochs=10, lr=1e-2)
    assert warnings(found) == {"small validation"}


def test_test_pictures_of_another_kind_are_noticed():
    pixels, labels = digits()
    parts = split(900, 200, 200)
    pixels = pixels.copy()
    pixels[parts.test] = 255 - pixels[parts.test] // 2
    found = trained(images_of(pixels, labels), parts)
    assert {"shift", "optimistic validation"} <= warnings(found)
    assert "brightness" in found["shift"].text
