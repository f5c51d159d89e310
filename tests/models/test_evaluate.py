import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn.modules.module import register_module_forward_pre_hook

from data.loader import eval_batches
from data.prepare import Dataset
from data.spec import ImageSpec
from models.config import Experiment
from models.evaluation.diagnose import diagnose
from models.evaluation.diagnosis.evidence import evidence, peers_of
from models.evaluation.evaluate import evaluate, fit_temperature, load_network, probabilities
from models.evaluation.inference import logits_of, validate
from models.evaluation.metrics import score
from models.records import CVResult, FoldResult, Lineage, RunResult
from models.run import RunFolder, open_run
from models.training.learn import learn
from models.zoo.cost import cost
from tests.models.conftest import toy_dataset


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, tiny: Experiment) -> tuple[RunFolder, RunResult]:
    toy, folder = toy_dataset(), open_run(tmp_path_factory.mktemp("home"), tiny, "0" * 64)
    learn(tiny, toy, folder)
    lineage = Lineage(run_id=folder.run_id, fingerprint="0" * 64, commit=None)
    crossval = CVResult(folds=(FoldResult(fold=0, accuracy=1.0, n=3, epochs_run=1, seconds=0.1),), mean=1.0, std=0.0)
    return folder, evaluate(folder, toy, crossval=crossval, lineage=lineage)


@pytest.fixture
def evaluated(once: tuple[RunFolder, RunResult], tmp_path: Path) -> tuple[RunFolder, RunResult]:
    """A copy of its own for each test."""
    folder, result = once
    return RunFolder(Path(shutil.copytree(folder.path, tmp_path / "runs" / folder.run_id))), result


def test_evaluation_finishes_the_run(evaluated, toy: Dataset):
    folder, result = evaluated
    assert folder.finished
    assert folder.result() == result
    assert result.run_id == folder.run_id
    assert (result.validation.n, result.test.n) == (len(toy.split.val), len(toy.split.test))
    assert result.crossval is not None
    assert result.flops == cost(load_network(folder), toy.images.spec).flops > 0
    assert {"python", "torch", "numpy", "pillow", "onnxruntime"} <= result.versions.keys()
    assert result.decided is not None
    assert result.decided["augment.grow"] == 0.0  # small pictures are not made smaller

    arrays = folder.predictions()
    assert np.array_equal(arrays["test_rows"], toy.split.test)
    assert np.array_equal(arrays["test_labels"], toy.images.labels[toy.split.test])
    expected = softmax(arrays["test_logits"] / result.calibration.temperature, axis=1)
    np.testing.assert_allclose(arrays["test_probabilities"], expected, atol=1e-6)
    hits = arrays["test_probabilities"].argmax(axis=1) == arrays["test_labels"]
    assert result.test.accuracy == pytest.approx(hits.mean())

    # The weights that are loaded are the best ones: they give the figures of the best epoch again.
    images, best = toy.images, folder.history()[result.fit.best_epoch]
    seen = eval_batches_of(toy, batch_size=folder.experiment().train.batch_size)
    again = validate(load_network(folder), seen, precision="auto")  # as training validated, also in bfloat16
    assert again.loss == pytest.approx(best.val_loss, abs=1e-6)
    assert again.accuracy == pytest.approx(best.val_accuracy)
    assert not load_network(folder).training
    assert load_network(folder)(torch.from_numpy(images.pixels[:3])).shape == (3, 2)


def test_training_pictures_are_looked_at_once_more_as_evaluation_sees_them(evaluated, toy: Dataset):
    folder, result = evaluated
    assert result.checks is not None
    assert result.checks.training.n == len(toy.split.train)
    from data.loader import Pictures

    images = toy.images
    seen = eval_batches(Pictures(images.pixels), images.labels, toy.split.train, batch_size=7, image=images.spec)
    logits = logits_of(load_network(folder), seen)[0].numpy()
    expected = score(
        probabilities(logits, temperature=result.calibration.temperature), images.labels[toy.split.train], ("a", "b")
    )
    assert result.checks.training.accuracy == pytest.approx(expected.accuracy)
    assert result.checks.training.loss == pytest.approx(expected.loss, abs=1e-5)
    assert result.checks.dead[0].units == 8  # the stem's
    assert result.checks.spectrum is None


@pytest.mark.slow
def test_evaluation_and_diagnosis_take_no_more_pictures_at_once_than_training(
    tmp_path: Path, tiny: Experiment, toy: Dataset
):
    """Whatever network looks: all that torch computes is counted."""
    train, asked = tiny.train.model_dump() | {"batch_size": 4, "epochs": 1}, {"hessian": True, "hessian_iterations": 2}
    chosen = Experiment.model_validate(tiny.model_dump() | {"train": train, "diagnose": asked})
    folder, sizes = open_run(tmp_path, chosen, "0" * 64), []
    learn(chosen, toy, folder)
    counter = register_module_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    try:
        lineage = Lineage(run_id=folder.run_id, fingerprint="0" * 64, commit=None)
        result = evaluate(folder, toy, crossval=None, lineage=lineage)
    finally:
        counter.remove()
    assert result.checks is not None
    assert result.checks.spectrum is not None
    assert max(sizes) == 4


def test_a_run_of_before_still_opens(evaluated):
    folder, result = evaluated
    old = result.model_dump(mode="json", exclude={"checks": True, "experiment": {"diagnose"}})
    assert "diagnose" not in old["experiment"]
    (folder.path / "run.json").write_text(json.dumps(old))
    assert folder.result().checks is None
    assert diagnose(evidence(folder))


def test_other_runs_on_the_same_pictures_are_peers(evaluated):
    folder, result = evaluated
    for name, fingerprint in (("20200101-000000-same", "0" * 64), ("20200101-000000-other", "1" * 64)):
        other = RunFolder(folder.path.parent / name)
        other.path.mkdir()
        values = result.model_dump(mode="json") | {"run_id": name}
        values["lineage"]["fingerprint"] = fingerprint
        (other.path / "run.json").write_text(json.dumps(values))
    elsewhere = {
        "20200101-000000-larger": {"image": result.image.model_copy(update={"height": 2 * result.image.height})},
        "20200101-000000-published": {"experiment": {"model": {"kind": "pretrained"}}},
    }
    for name, changed in elsewhere.items():
        other = RunFolder(folder.path.parent / name)
        other.path.mkdir()
        values = result.model_copy(update={"run_id": name}).model_dump(mode="json")
        values["lineage"]["fingerprint"] = "0" * 64
        for key, value in changed.items():
            values[key] = value.model_dump() if isinstance(value, ImageSpec) else values[key] | value
        (other.path / "run.json").write_text(json.dumps(values))
    broken = folder.path.parent / "20200101-000000-broken"
    broken.mkdir()
    (broken / "run.json").write_text("{}")
    assert [peer.run_id for peer in peers_of(folder, result)] == ["20200101-000000-same"]


def eval_batches_of(toy: Dataset, *, batch_size: int):
    from data.loader import Pictures

    images = toy.images
    return eval_batches(Pictures(images.pixels), images.labels, toy.split.val, batch_size=batch_size, image=images.spec)


def test_the_temperature_that_made_the_labels_is_found():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 5))
    labels = np.array([random.choice(5, p=p) for p in softmax(logits / 2.5, axis=1)])
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.1)


def test_a_few_pictures_hardly_move_the_temperature_and_none_leave_it_alone():
    assert fit_temperature(np.array([[9.0, 0.0]]), np.array([0])) == pytest.approx(1, abs=0.1)
    assert 1 < fit_temperature(np.array([[9.0, 0.0]]), np.array([1])) < 5  # one picture, surely wrong
    assert fit_temperature(np.empty((0, 2)), np.empty(0, dtype=np.int64)) == pytest.approx(1, abs=1e-3)


def test_answers_that_are_not_finite_do_not_spoil_the_temperature():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (200, 3))
    labels = np.array([random.choice(3, p=p) for p in softmax(logits / 2, axis=1)])
    broken = np.vstack([logits, np.full((5, 3), np.nan), np.full((5, 3), np.inf)])
    expected = fit_temperature(logits, labels)
    assert fit_temperature(broken, np.append(labels, np.zeros(10, dtype=np.int64))) == pytest.approx(expected)
    assert fit_temperature(broken[200:], np.zeros(10, dtype=np.int64)) == pytest.approx(1, abs=1e-3)


def test_validation_pictures_that_are_too_few_prove_no_threshold_and_it_is_said(evaluated, toy: Dataset):
    _, result = evaluated
    assert result.selective is not None
    assert (result.selective.threshold, result.selective.n) == (None, len(toy.split.val))
    assert result.selective.said.startswith("no threshold gives at most 5 % wrong")


def test_faultless_answers_do_not_become_certainty():
    labels = np.arange(50) % 3
    temperature = fit_temperature(np.eye(3)[labels] * 4, labels)
    assert 0.2 < temperature < 1


def test_a_temperature_changes_no_answer():
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    cooled = probabilities(logits, temperature=0.3)
    assert cooled.dtype == np.float32
    assert np.array_equal(cooled.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(cooled.sum(axis=1), 1, atol=1e-6)
