"""Best weights -> calibrated answers on validation and test pictures, and the figures of the run."""

import platform
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from pydantic import JsonValue
from safetensors.torch import load_file
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from torch import nn

from data.images import Images
from data.loader import Pictures
from data.prepare import Dataset
from data.progress import Progress, ignore
from models.device import choose_device
from models.evaluation import outliers, strangers
from models.evaluation.decided import batch_size_of, decided
from models.evaluation.diagnosis.measure import measure
from models.evaluation.inference import logits_of
from models.evaluation.metrics import Metrics, score
from models.evaluation.selective import selective
from models.mirror import Mirrored
from models.records import Calibration, Checks, CVResult, Lineage, Outliers, RunResult, Selective
from models.run import RunFolder
from models.training.judging import answered_at_once, logits
from models.zoo.build import build
from models.zoo.cost import cost

LOG_T_RANGE = (-3.0, 3.0)
LOG_T_PRIOR_STD = 0.5
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "onnx", "onnxruntime")


def evaluate(
    folder: RunFolder, dataset: Dataset, *, crossval: CVResult | None, lineage: Lineage, progress: Progress = ignore
) -> RunResult:
    """Look at the test pictures, once, and finish the folder: predictions.npz, then run.json."""
    progress("answers to validation and test pictures", 0, 0)
    images, split, experiment = dataset.images, dataset.split, folder.experiment()
    pictures = Pictures(images.pixels, choose_device(experiment.train.devices))
    net = load_network(folder, device=str(pictures.device))
    at_once = answered_at_once(experiment.train, batch_size_of(experiment.train, dataset, folder))
    val_logits, test_logits = (logits(net, pictures, images, rows, at_once=at_once) for rows in (split.val, split.test))
    val_labels, test_labels = images.labels[split.val], images.labels[split.test]
    temperature = fit_temperature(val_logits, val_labels)
    val, test = (probabilities(some, temperature=temperature) for some in (val_logits, test_logits))
    folder.write_predictions(
        {
            "val_logits": val_logits,
            "val_rows": split.val,
            "val_labels": val_labels,
            "test_logits": test_logits,
            "test_probabilities": test,
            "test_rows": split.test,
            "test_labels": test_labels,
        }
    )
    looked_at = partial(measure, net, pictures, images, split)
    before = score(probabilities(test_logits, temperature=1.0), test_labels, images.classes)
    after = score(test, test_labels, images.classes)
    return finish(
        folder,
        validation=score(val, val_labels, images.classes),
        test=after,
        calibration=Calibration(temperature=temperature, ece_before=before.ece, ece_after=after.ece),
        selective=selective((val, val_labels), (test, test_labels), config=experiment.answer),
        strange=strangeness(net, images, split.test, test_logits, at_once=at_once),
        crossval=crossval,
        lineage=lineage,
        flops=cost(net, images.spec).flops,
        checks=looked_at(temperature=temperature, experiment=experiment, at_once=at_once, progress=progress),
        decided=decided(experiment, dataset, folder),
    )


def finish(
    folder: RunFolder,
    *,
    validation: Metrics,
    test: Metrics,
    calibration: Calibration,
    crossval: CVResult | None,
    lineage: Lineage,
    flops: int,
    selective: Selective | None = None,
    strange: Outliers | None = None,
    checks: Checks | None = None,
    decided: dict[str, JsonValue] | None = None,
) -> RunResult:
    """run.json: what the folder says of itself, and the figures."""
    network = folder.network()
    result = RunResult(
        run_id=folder.run_id,
        experiment=folder.experiment(),
        image=network.image,
        statistics=network.statistics,
        classes=network.classes,
        fit=folder.fit(),
        validation=validation,
        test=test,
        calibration=calibration,
        crossval=crossval,
        lineage=lineage,
        versions=versions(),
        flops=flops,
        selective=selective,
        outliers=strange,
        checks=checks,
        decided=decided,
    )
    folder.write_result(result)
    return result


def load_network(folder: RunFolder, device: str = "cpu") -> nn.Module:
    """uint8 (B, H, W, C) -> logits (B, K), with the best weights, ready to answer: `answer.mirror` is in it."""
    network, experiment = folder.network(), folder.experiment()
    net = build(experiment.model, network.image, network.statistics, len(network.classes))
    net.load_state_dict(load_file(folder.weights_file))
    if experiment.answer.mirror:
        net = Mirrored(net)
    return net.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def strangeness(
    net: nn.Module, images: Images, test: np.ndarray, test_logits: np.ndarray, *, at_once: int
) -> Outliers | None:
    """How strange pictures are to a network: its test rows, whose logits (N, K) are known, against strangers."""
    device = next(net.parameters()).device
    energies = {}
    for name, pixels in strangers.made(images, test).items():
        parts = (torch.from_numpy(pixels[i : i + at_once]).to(device) for i in range(0, len(pixels), at_once))
        found, _ = logits_of(net, ((part, torch.zeros(len(part), device=device)) for part in parts))
        energies[name] = outliers.energy(found.cpu().numpy())
    return outliers.outliers(outliers.energy(test_logits), energies)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of https://arxiv.org/abs/1706.04599: least loss of softmax(logits / T) on validation data.

    With a mild prior around 1: where every answer is right the loss alone would send T to 0 and certainty to 1, and a
    few pictures say little. Rows that are not finite are left out; without any other the temperature is 1.
    """
    finite = np.isfinite(logits).all(axis=1)
    wide, labels = logits[finite].astype(np.float64), labels[finite]

    def loss(log_t: float) -> float:
        likelihood = log_softmax(wide / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].sum()
        return float(-likelihood + (log_t / LOG_T_PRIOR_STD) ** 2 / 2)

    return float(np.exp(minimize_scalar(loss, bounds=LOG_T_RANGE, method="bounded").x))


def probabilities(logits: np.ndarray, *, temperature: float) -> np.ndarray:
    """float32 (N, K), rows sum to 1."""
    return np.asarray(softmax(logits / np.float32(temperature), axis=1), dtype=np.float32)


def versions() -> dict[str, str]:
    """What a later difference may be blamed on; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
