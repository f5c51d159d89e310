"""A finished run -> a bundle that answers exactly like the trained network, or no bundle and the reason why."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import PIL
import torch
from PIL import features
from torch import nn

from data import whole
from data.images import Images
from data.prepare import Dataset
from data.preprocess import to_pixels
from data.progress import Progress, ignore
from models.bundle import faster, golden, manifest, parity, samples
from models.bundle.bundle import CARD, Bundle
from models.bundle.carried import carried
from models.bundle.faster import Make
from models.bundle.golden import Golden, Sample
from models.bundle.graph import calibrated, trained_answer
from models.bundle.graphs import Graphs, graphs_of
from models.bundle.manifest import BundleError
from models.bundle.page import card_page
from models.bundle.parity import Answer, ExportError
from models.bundle.proving import Rehearse, proved
from models.bundle.shown import sight
from models.bundle.variants import Wanted
from models.cards import ModelCard, Parity, Rehearsal
from models.config import Experiment
from models.evaluation.decided import batch_size_of
from models.evaluation.evaluate import load_network
from models.records import RunResult
from models.run import RunFolder
from models.training.judging import MOST, answered_at_once

__all__ = ["ExportError", "export", "write_bundle"]

TOLERANCE = 1e-4  # of a golden probability: other processors differ by 1e-6, faults by 1e-2
UNPROVED = Parity(n=0, largest_difference=0.0, changed_answers=0)


def export(
    folder: RunFolder,
    dataset: Dataset,
    *,
    rehearse: Rehearse | None = None,
    variant: Wanted = "auto",
    progress: Progress = ignore,
) -> Path:
    """The run's bundle folder. `variant`: what a service here is told to answer with, and so is rehearsed with.
    Raises `ExportError`; then nothing is written, and an earlier bundle stays."""
    experiment = folder.experiment()
    train = experiment.train
    predictions, test = folder.predictions(), dataset.split.test
    return write_bundle(
        folder.bundle,
        network=load_network(folder, device="cpu"),
        result=folder.result(),
        images=dataset.images,
        test=test,
        evaluated=predictions["test_probabilities"] if np.array_equal(predictions["test_rows"], test) else None,
        at_once=answered_at_once(train, batch_size_of(train, dataset, folder)),
        make=_make(experiment, dataset, progress),
        rehearse=rehearse,
        variant=variant,
        progress=progress,
    )


def _make(experiment: Experiment, dataset: Dataset, progress: Progress) -> Make | None:
    """Of variants, where any are wanted."""
    if experiment.export.quantize == "none":
        return None
    return partial(
        faster.made,
        sight=sight(dataset.images, dataset.split),
        config=experiment.export,
        release=experiment.release,
        progress=progress,
    )


def write_bundle(
    target: Path,
    *,
    network: nn.Module,
    result: RunResult,
    images: Images,
    test: np.ndarray,
    evaluated: np.ndarray | None = None,
    at_once: int = MOST,
    make: Make | None = None,
    rehearse: Rehearse | None = None,
    variant: Wanted = "auto",
    progress: Progress = ignore,
) -> Path:
    """network: uint8 NHWC -> logits; test: rows of `images` that it was never trained on; evaluated: (rows, K), the
    answers that `result` was computed from; `at_once`: pictures; make: the variants."""
    if not len(test):
        raise ExportError("there are no test pictures to compare the exported model with; raise dataset.test_fraction")
    tolerance = result.experiment.release.parity
    with _in_place_of(target) as part:
        progress("writing the graph", 0, 0)
        model = calibrated(network, result.calibration.temperature)
        trained = trained_answer(model)
        slim = result.experiment.export.slim
        graphs = graphs_of(model, images, test, tolerance=tolerance, at_once=at_once, slim=slim, make=make)
        tests = _golden(trained, images, test, tolerance=_tolerance(tolerance))
        asked = partial(parity.over_files, images, test, trained=trained, evaluated=evaluated, at_once=at_once)
        card = partial(_card, result, images.snapshot.name)

        def written(graphs: Graphs) -> Bundle:
            graphs.write(part, tests.pixels)
            return _sealed(part, card(graphs, UNPROVED), tests)

        compared = partial(asked, tolerance=tolerance)
        proof = proved(graphs, written, compared, variant=variant, rehearse=rehearse, progress=progress)
        final = replace(tests, tolerance=_tolerance(proof.parity.largest_difference))
        _sealed(part, card(proof.graphs, proof.parity, proof.rehearsal), final)
    return target


def _tolerance(difference: float) -> float:
    """Of the golden answers, where all test pictures differ by no more than that: what a bundle may state."""
    return min(golden.LOOSEST, max(TOLERANCE, 2 * difference))


@contextmanager
def _in_place_of(target: Path) -> Iterator[Path]:
    """An empty folder, which takes the place of `target` if the block ends well."""
    aside = target.with_name(f".{target.name}.old")
    with whole.locked(target):
        if aside.exists() and not target.exists():  # one was killed between its two renames
            aside.rename(target)
        with whole.folder(target) as part:
            yield part
            shutil.rmtree(aside, ignore_errors=True)
            if target.exists():  # a folder cannot be renamed over another
                target.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _sealed(folder: Path, card: ModelCard, tests: Golden) -> Bundle:
    """What stands beside the graphs, and the whole opened as a service would open it, with the exported graph."""
    (folder / CARD).write_text(card.model_dump_json() + "\n", encoding="utf-8")
    (folder / manifest.PAGE).write_text(card_page(card), encoding="utf-8")
    golden.save(tests, folder)
    manifest.write(folder)
    try:
        return Bundle.open(folder, threads=torch.get_num_threads(), variant="float")
    except BundleError as error:
        raise ExportError(f"the new bundle does not pass its own test: {error}") from error


def _golden(trained: Answer, images: Images, test: np.ndarray, *, tolerance: float) -> Golden:
    chosen = samples.choose(images.labels, test)
    sources = [(images.path(row), images.classes[images.labels[row]]) for row in chosen]
    pictures = samples.make(sources, images.spec)
    pixels = np.stack([to_pixels(picture.file, images.spec) for picture in pictures])
    answers = trained(pixels)
    records = tuple(
        Sample(
            file=f"{i}-{picture.kind}.{picture.format}",
            kind=picture.kind,
            label=picture.label,
            probabilities=tuple(float(p) for p in row),
        )
        for i, (picture, row) in enumerate(zip(pictures, answers, strict=True))
    )
    return Golden(samples=records, files=tuple(p.file for p in pictures), pixels=pixels, tolerance=tolerance)


def _card(
    result: RunResult, name: str, graphs: Graphs, proved: Parity, rehearsal: Rehearsal | None = None
) -> ModelCard:
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
        selective=result.selective,
        outliers=result.outliers,
        parity=proved,
        rehearsal=rehearsal,
        variants=graphs.variants,
        slimmed=graphs.slimmed,
        lineage=result.lineage,
        experiment=carried(result.experiment.model_dump(mode="json")),
        versions={**result.versions, **_versions()},  # what made the golden pixels counts
    )


def _versions() -> dict[str, str]:
    """Of what decodes and answers here; what is not there is left out."""
    try:
        simplejpeg = version("simplejpeg")
    except PackageNotFoundError:
        simplejpeg = None
    found = {
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": PIL.__version__,
        "simplejpeg": simplejpeg,
        "libjpeg-turbo": features.version("libjpeg_turbo"),
        "libwebp": features.version("webp"),
        "torch": str(torch.__version__),
    }
    return {name: one for name, one in found.items() if one}
