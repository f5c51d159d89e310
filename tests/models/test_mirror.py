"""Answers to a picture and its mirror image, averaged: in evaluation and in the exported graph the same."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data.errors import InputError
from data.loader import Pictures
from data.prepare import Dataset
from data.snapshot import Snapshot
from data.split import Split
from data.validate import ValidationReport
from models.bundle.bundle import Bundle
from models.bundle.export import export
from models.bundle.graph import calibrated, to_onnx
from models.config import AnswerConfig, DiagnoseConfig, Experiment
from models.evaluation.evaluate import evaluate, load_network
from models.mirror import Mirrored
from models.records import Lineage, RunResult
from models.run import RunFolder, open_run
from models.training.learn import learn, learner_for
from models.zoo.build import build
from models.zoo.config import CNNConfig, ModelConfig
from models.zoo.config_classic import LSTMConfig
from models.zoo.config_transformer import ViTConfig
from tests.models.bundles import CLASSES, IMAGE, STATISTICS, Tiny, toy_images


def noise(num: int) -> Tensor:
    shape = (num, IMAGE.height, IMAGE.width, IMAGE.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_the_answer_is_the_mean_of_two() -> None:
    net, pixels = Tiny().eval(), noise(5)
    expected = (torch.softmax(net(pixels), 1) + torch.softmax(net(pixels.flip(2)), 1)) / 2
    answer = calibrated(Mirrored(net), 1.0)(pixels)
    assert torch.allclose(answer, expected, atol=1e-6)
    assert not torch.allclose(answer, torch.softmax(net(pixels), 1), atol=0.01)
    assert torch.allclose(Mirrored(net)(pixels).softmax(1), expected, atol=1e-6), "the logits are logarithms of it"
    energies = (torch.logsumexp(net(pixels), 1) + torch.logsumexp(net(pixels.flip(2)), 1)) / 2
    assert torch.allclose(torch.logsumexp(Mirrored(net)(pixels), 1), energies, atol=1e-5), "and keep the energy"
    assert torch.allclose(calibrated(Mirrored(net), 2.0)(pixels.flip(2)), calibrated(Mirrored(net), 2.0)(pixels))


@torch.inference_mode()
def test_certain_answers_stay_finite() -> None:
    net = Tiny().eval()
    net.head.weight.mul_(1e6)
    answer = Mirrored(net)(noise(4))
    assert torch.isfinite(answer).all()
    assert torch.allclose(answer.softmax(1).sum(1), torch.ones(4))


@pytest.mark.slow  # one of them is exported below
@pytest.mark.parametrize(
    "model", [CNNConfig(width=8), ViTConfig(patch=4), LSTMConfig(width=8)], ids=lambda model: model.kind
)
def test_the_graph_mirrors_whatever_the_batch(model: ModelConfig) -> None:
    torch.manual_seed(0)
    net = build(model, IMAGE, STATISTICS, len(CLASSES))
    to_onnx(calibrated(Mirrored(net), 1.0), IMAGE, tolerance=1e-4)  # compares the answers to 1, 3 and 8 pictures


def dataset(root: Path) -> Dataset:
    images = toy_images(root)
    rows = np.arange(len(images.rows))
    report = ValidationReport(
        name="toy", fingerprint="0" * 64, num_examples=len(rows), num_unreadable=0, height=IMAGE.height,
        width=IMAGE.width, channels=IMAGE.channels, classes=(), findings=(),
    )  # fmt: skip
    return Dataset(images, Split(train=rows[::2], val=rows[1::4], test=rows[3::4]), report)


def evaluated(experiment: Experiment, folder: RunFolder, pictures: Dataset) -> RunResult:
    folder.write_experiment(experiment)
    lineage = Lineage(run_id=folder.run_id, fingerprint="0" * 64, commit=None)
    return evaluate(folder, pictures, crossval=None, lineage=lineage)


@pytest.mark.slow
def test_evaluation_calibration_and_bundle_speak_of_the_same_answers(tmp_path: Path, tiny: Experiment) -> None:
    pictures = dataset(tmp_path / "pictures")
    settings = tiny.model_dump() | {"diagnose": DiagnoseConfig(hessian=True, hessian_pictures=4, hessian_iterations=2)}
    settings["train"] |= {"batch_size": 4}
    one = Experiment.model_validate(settings)
    two = Experiment.model_validate(settings | {"answer": AnswerConfig(mirror=True)})
    folder = open_run(tmp_path, two, "0" * 64)
    learn(two, pictures, folder)
    plain, result = evaluated(one, folder, pictures), evaluated(two, folder, pictures)

    found = folder.predictions()
    test = torch.from_numpy(pictures.images.pixels[found["test_rows"]][:, 2:-2, 2:-2])  # without the margin
    with torch.inference_mode():
        expected = torch.softmax(load_network(folder)(test) / result.calibration.temperature, 1).numpy()
    np.testing.assert_allclose(found["test_probabilities"], expected, atol=1e-5)
    bundle = Bundle.open(export(folder, pictures))  # replays its golden samples
    np.testing.assert_allclose(bundle.predict(test.numpy()), expected, atol=1e-4)
    np.testing.assert_allclose(bundle.predict(test.flip(2).numpy()), expected, atol=1e-4)
    assert bundle.card.parity.largest_difference < 1e-4

    assert result.flops == 2 * (plain.flops or 0)
    assert result.fit.parameters == plain.fit.parameters
    assert result.checks is not None
    assert plain.checks is not None
    assert result.checks.spectrum == plain.checks.spectrum, "curvature is that of the loss that was trained"
    assert [dead.layer for dead in result.checks.dead] == [dead.layer for dead in plain.checks.dead]


def test_where_a_mirror_changes_the_class_it_is_refused(tiny: Experiment, toy: Dataset) -> None:
    images = toy.images
    digits: Snapshot = dataclasses.replace(images.snapshot, name="digits", mirror=False)
    mirrored = Experiment.model_validate(tiny.model_dump() | {"answer": {"mirror": True}})

    def start(experiment: Experiment, snapshot: Snapshot) -> None:
        some = dataclasses.replace(images, snapshot=snapshot)
        learner_for(experiment, some, Pictures(images.pixels), train=toy.split.train, val=toy.split.val, seed=0)

    start(tiny, digits)
    start(mirrored, images.snapshot)
    with pytest.raises(InputError, match=r"answer.mirror is on, but a mirrored picture of digits may be of another"):
        start(mirrored, digits)
