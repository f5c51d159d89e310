"""A graph in int8: onnxruntime's static quantization, which needs pictures to learn the ranges of activations from.

Quantized is what multiplies, and what stands between; pixels, the mean over places, softmax and temperature stay
float32, as their eight bits would be those of the answer. Activations are uint8, weights int8 of seven bits, from -64
to 64, wherever it is made: an x86 processor without VNNI cuts off the sum of two products of eight bits, and a bundle
goes to any processor.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.bundle.graph import cleaned, silence
from models.bundle.session import INPUT
from models.bundle.shown import AT_ONCE, Shown
from models.cards import Recipe

MULTIPLY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BETWEEN = ("Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Relu", "Transpose")
CALIBRATION_BYTES = 1 << 30  # of activations, all of which a histogram is made of at once
FEWEST = 16  # pictures, however large


class Quantiser:
    """One graph, quantized in as many ways as are asked for. Works in `folder`."""

    def __init__(self, graph: bytes, calibration: Shown, folder: Path) -> None:
        self._folder, self._source = folder, folder / "source.onnx"
        (folder / "raw.onnx").write_bytes(graph)
        with _library() as library:
            library.shape_inference.quant_pre_process(folder / "raw.onnx", self._source, skip_symbolic_shape=True)
        source = onnx.load(self._source)
        for i, node in enumerate(source.graph.node):
            node.name = node.name or f"node-{i}"
        onnx.save(source, self._source)
        self.nodes = tuple(node.name for node in source.graph.node if node.op_type in MULTIPLY)
        room = max(FEWEST, CALIBRATION_BYTES // max(1, _activations(source)))
        self._calibration = Shown(calibration.images, calibration.rows[: in_equal_batches(calibration.rows, room)])

    def make(self, recipe: Recipe, *, only: Sequence[str] = ()) -> bytes:
        """only: nodes that are quantized alone."""
        target = self._folder / "quantized.onnx"
        with _library() as library:
            library.quantize_static(
                self._source,
                target,
                _Reader(self._calibration),
                quant_format=library.QuantFormat.QDQ,
                op_types_to_quantize=[*MULTIPLY, *BETWEEN],
                per_channel=recipe.per_channel,
                reduce_range=True,  # seven bits of weight
                activation_type=library.QuantType.QUInt8,
                weight_type=library.QuantType.QInt8,
                nodes_to_quantize=list(only),
                nodes_to_exclude=list(recipe.excluded),
                calibrate_method=_methods(library)[recipe.method],
                # The logits come from the last one: they stay as exact as they were computed.
                extra_options={
                    "ActivationSymmetric": recipe.symmetric,
                    "OpTypesToExcludeOutputQuantization": ["Gemm"],
                },
                calibration_cache_path=self._folder / f"{recipe.method}.json",
            )
        made = cleaned(onnx.load(target))
        onnx.checker.check_model(made)
        raw: bytes = made.SerializeToString(deterministic=True)
        return raw


def in_equal_batches(rows: np.ndarray, most: int) -> int:
    """How many pictures: a histogram is made of all batches at once, which then have to be of one size."""
    n = min(len(rows), most)
    return n - n % AT_ONCE if n > AT_ONCE else n


def _activations(source: onnx.ModelProto) -> int:
    """Bytes of all intermediate values for one picture, as far as their shapes are known."""
    graph = onnx.shape_inference.infer_shapes(source).graph
    shapes = [[d.dim_value or 1 for d in value.type.tensor_type.shape.dim] for value in graph.value_info]
    return 4 * sum(math.prod(shape) for shape in shapes)


def _methods(library: Any) -> dict[str, Any]:
    kinds = library.CalibrationMethod
    return {"minmax": kinds.MinMax, "percentile": kinds.Percentile, "entropy": kinds.Entropy}


class _Reader:
    """As onnxruntime's CalibrationDataReader, which takes whatever has its method."""

    def __init__(self, shown: Shown) -> None:
        self._batches = shown.batches()

    def get_next(self) -> dict[str, np.ndarray] | None:
        pixels = next(self._batches, None)
        return None if pixels is None else {INPUT: pixels}


@contextmanager
def _library() -> Iterator[Any]:
    """onnxruntime.quantization, imported late (it needs the onnx package) and kept quiet: it prints."""
    path = list(sys.path)
    with silence():
        from onnxruntime import quantization
        from onnxruntime.quantization import calibrate, shape_inference  # noqa: F401 - named by way of the package

        sys.path[:] = path  # parts of onnxruntime put folders of theirs there
        calibrate.print = lambda *_: None
        yield quantization
