"""A model whose right answer is known: "bright" iff the mean of the picture is above a threshold. No torch."""

import io
from pathlib import Path

import numpy as np
import onnx
import PIL
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from data.preprocess import to_pixels
from data.spec import ImageSpec
from models.bundle import golden, manifest
from models.bundle.golden import Golden, Sample
from models.config import Experiment
from models.evaluation.metrics import score
from models.records import Calibration, Lineage, ModelCard, Outliers, Parity, PixelStatistics, Selective

CLASSES = ("bright", "dark")
GREYS = (10, 90, 160, 250, 120)
TRUE = ("dark", "dark", "bright", "bright", "bright")  # a model with the usual threshold is wrong about the last one


def picture(value: int, *, size: tuple[int, int] = (40, 24), format: str = "PNG") -> bytes:
    """A picture of one grey; `size` is (width, height)."""
    stream = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(stream, format=format)
    return stream.getvalue()


def bundle(
    folder: Path,
    *,
    version: str,
    name: str = "toy",
    threshold: float = 127.5,
    side: int = 16,
    corner: bool = False,
    sure: float | None = None,
    energies: tuple[float, ...] = (),
) -> Path:
    """A whole bundle at `folder`; with `corner`, of a model that looks at the upper left quarter alone; with `sure`, of
    one that is sure of answers whose probability is above; with `energies`, 101 quantiles, of one that gives them."""
    folder.mkdir(parents=True)
    image = ImageSpec(height=side, width=side)
    (folder / "model.onnx").write_bytes(
        _graph(threshold, side, seen=side // 2 if corner else side, energy=bool(energies))
    )
    (folder / "card.json").write_text(_card(name, version, image, sure, energies).model_dump_json(indent=1))
    golden.save(_golden(threshold, image), folder)
    manifest.write(folder)
    return folder


def probabilities(pixels: np.ndarray, threshold: float) -> np.ndarray:
    """pixels u8 (N, H, W, C) -> (N, 2) float32, by hand."""
    mean = pixels.astype(np.float32).mean(axis=(1, 2, 3))
    bright = 1 / (1 + np.exp(-(mean - threshold) / 10))
    return np.stack([bright, 1 - bright], axis=1).astype(np.float32)


def _graph(threshold: float, side: int, *, seen: int, energy: bool) -> bytes:
    weights = {
        "first": np.array([0, 0], dtype=np.int64),
        "end": np.array([seen, seen], dtype=np.int64),
        "sides": np.array([1, 2], dtype=np.int64),
        "axes": np.array([1, 2, 3], dtype=np.int64),
        "last": np.array([1], dtype=np.int64),
        "slope": np.array([[0.05, -0.05]], dtype=np.float32),
        "bias": np.array([-0.05, 0.05], dtype=np.float32) * np.float32(threshold),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["values", "first", "end", "sides"], ["seen"]),
        helper.make_node("ReduceMean", ["seen", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("MatMul", ["column", "slope"], ["sloped"]),
        helper.make_node("Add", ["sloped", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    ends = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    if energy:
        nodes += [
            helper.make_node("ReduceLogSumExp", ["logits", "last"], ["sum"], keepdims=0),
            helper.make_node("Neg", ["sum"], ["energy"]),
        ]
        ends.append(helper.make_tensor_value_info("energy", TensorProto.FLOAT, ["n"]))
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", side, side, 3])],
        ends,
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def _golden(threshold: float, image: ImageSpec) -> Golden:
    files = tuple(picture(value) for value in GREYS)
    pixels = np.stack([to_pixels(file, image) for file in files])
    answers = probabilities(pixels, threshold)
    samples = tuple(
        Sample(
            file=f"{i}.png",
            kind="plain",
            label=TRUE[i],
            probabilities=tuple(float(value) for value in row),
        )
        for i, row in enumerate(answers)
    )
    return Golden(samples=samples, files=files, pixels=pixels, tolerance=1e-3)


def _card(name: str, version: str, image: ImageSpec, sure: float | None, energies: tuple[float, ...]) -> ModelCard:
    selective = outliers = None
    if sure is not None:
        selective = Selective(risk=0.05, confidence=0.95, threshold=sure, n=100, test=None, said="some are sure")
    if energies:
        outliers = Outliers(n=101, quantiles=energies, threshold=energies[95], strangers=(), said="some are strange")
    metrics = score(np.eye(2) * 0.8 + 0.1, np.arange(2), CLASSES)
    return ModelCard(
        name=name,
        version=version,
        created="2026-11-21T12:00:00+00:00",
        classes=CLASSES,
        image=image,
        statistics=PixelStatistics(mean=(0.5,) * image.channels, std=(0.25,) * image.channels),
        kind="cnn",
        parameters=4,
        validation=metrics,
        test=metrics,
        crossval=None,
        calibration=Calibration(temperature=1.0, ece_before=0.1, ece_after=0.1),
        selective=selective,
        outliers=outliers,
        parity=Parity(n=2, largest_difference=0.0, changed_answers=0),
        lineage=Lineage(run_id=version, fingerprint="0" * 64, commit=None),
        experiment=Experiment().model_dump(mode="json"),
        versions={"pillow": PIL.__version__},
    )
