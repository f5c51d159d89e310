"""A finished run -> a bundle that answers exactly like the trained network, or no bundle and the reason why."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import PIL
import torch
from torch import nn

from data import whole
from data.images import Images
from data.prepare import Dataset
from data.preprocess import centre, to_pixels
from models.bundle import golden, manifest, samples, session
from models.bundle.bundle import CARD, MODEL, Bundle
from models.bundle.golden import Golden, Sample
from models.bundle.graph import Answer, ExportError, calibrated, compare, to_onnx, trained_answer
from models.bundle.manifest import BundleError
from models.evaluation.decided import batch_size_of
from models.evaluation.evaluate import load_network
from models.records import ModelCard, Parity, RunResult
from models.run import RunFolder
from models.training.judging import MOST, answered_at_once

__all__ = ["ExportError", "export", "write_bundle"]

DECODED_AGAIN = 32  # test pictures whose files are compared with the cached pixels
TOLERANCE = 1e-4  # of a golden probability: other processors differ by 1e-6, faults by 1e-2


def export(folder: RunFolder, dataset: Dataset) -> Path:
    """The run's bundle folder. Raises `ExportError`; then nothing is written, and an earlier bundle stays."""
    train = folder.experiment().train
    return write_bundle(
        folder.bundle,
        network=load_network(folder, device="cpu"),
        result=folder.result(),
        images=dataset.images,
        test=dataset.split.test,
        at_once=answered_at_once(train, batch_size_of(train, dataset, folder)),
    )


def write_bundle(
    target: Path,
    *,
    network: nn.Module,
    result: RunResult,
    images: Images,
    test: np.ndarray,
    at_once: int = MOST,
) -> Path:
    """network: uint8 NHWC -> logits; test: rows of `images` that it was never trained on; `at_once`: pictures."""
    if not len(test):
        raise ExportError("there are no test pictures to compare the exported model with; raise dataset.test_fraction")
    _check_cache(images, test)
    model = calibrated(network, result.calibration.temperature)
    trained = trained_answer(model)
    tolerance = result.experiment.release.parity
    graph = to_onnx(model, images.spec, tolerance=tolerance)
    connected = session.connect(graph, threads=torch.get_num_threads())
    parity = compare(
        trained, lambda x: session.answer(connected, x), _views(images, test, at_once), tolerance=tolerance
    )
    card = _card(result, images.snapshot.name, parity)
    tests = _golden(trained, images, test, tolerance=max(TOLERANCE, 2 * parity.largest_difference))
    aside = target.with_name(f".{target.name}.old")
    with whole.locked(target), whole.folder(target) as part:
        _write(part, graph, card, tests)
        try:
            Bundle.open(part)
        except BundleError as error:
            raise ExportError(f"the new bundle does not pass its own test: {error}") from error
        shutil.rmtree(aside, ignore_errors=True)
        if target.exists():  # a folder cannot be renamed over another
            target.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
    return target


def _check_cache(images: Images, test: np.ndarray) -> None:
    """The cached pixels are what the files give today, here: what a request will be decoded to."""
    for i in np.unique(np.linspace(0, len(test) - 1, DECODED_AGAIN).round().astype(int)):
        row = int(test[i])
        if not np.array_equal(to_pixels(images.path(row), images.spec), centre(images.pixels[row], images.spec)):
            raise ExportError(
                f"{images.path(row)} no longer gives the pixels that were trained on (Pillow is {PIL.__version__}); "
                "delete the images folder in TRAINSERVE_HOME and run again"
            )


def _views(images: Images, rows: np.ndarray, at_once: int) -> Iterator[np.ndarray]:
    """What the network sees of these rows, u8 (<= at_once, H, W, C) at a time."""
    for start in range(0, len(rows), at_once):
        yield centre(images.pixels[rows[start : start + at_once]], images.spec)


def _golden(trained: Answer, images: Images, test: np.ndarray, *, tolerance: float) -> Golden:
    chosen = samples.choose(images.labels, test)
    sources = [(images.path(row), images.classes[images.labels[row]]) for row in chosen]
    pictures = samples.make(sources, images.spec)
    pixels = np.stack([to_pixels(picture.file, images.spec) for picture in pictures])
    answers = trained(pixels)
    records = tuple(
        Sample(
            file=f"{i}-{picture.kind}.png",
            kind=picture.kind,
            label=picture.label,
            probabilities=tuple(float(p) for p in row),
        )
        for i, (picture, row) in enumerate(zip(pictures, answers, strict=True))
    )
    return Golden(samples=records, files=tuple(p.file for p in pictures), pixels=pixels, tolerance=tolerance)


def _card(result: RunResult, name: str, parity: Parity) -> ModelCard:
    here = {
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": PIL.__version__,
        "torch": str(torch.__version__),
    }
    return ModelCard(
        name=name,
        version=result.run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        classes=result.classes,
        image=result.image,
        statistics=result.statistics,
        kind=result.experiment.model.kind,
        parameters=result.fit.parameters,
        flops=result.flops,
        validation=result.validation,
        test=result.test,
        crossval=result.crossval,
        calibration=result.calibration,
        parity=parity,
        lineage=result.lineage,
        experiment=result.experiment.model_dump(mode="json"),
        versions={**result.versions, **here},  # what made the golden pixels counts
    )


def _write(folder: Path, graph: bytes, card: ModelCard, tests: Golden) -> None:
    (folder / MODEL).write_bytes(graph)
    (folder / CARD).write_text(card.model_dump_json() + "\n", encoding="utf-8")
    golden.save(tests, folder)
    manifest.write(folder)
