"""A trained network -> ONNX bytes that answer the same, whatever the batch size."""

import copy
import logging
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from data.spec import ImageSpec
from models.bundle import session
from models.bundle.parity import REMEDY, Answer, ExportError, Tally
from models.zoo.adapter import merge

OPSET = 18
GATE_BATCHES = (1, 3, 8)  # none is the sample's size, so a batch frozen by the exporter shows


class Calibrated(nn.Module):
    """Logits (B, K) -> probabilities (B, K), softened by one temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits / self.temperature, dim=1)


class WithEnergy(nn.Module):
    """A `calibrated` network that gives the energy of its logits (B,) as well: how strange a picture is to it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network, self.calibrated = model.children()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(pixels)
        return self.calibrated(logits), -torch.logsumexp(logits, dim=1)


def calibrated(network: nn.Module, temperature: float) -> nn.Module:
    """The network that goes into service: a copy in float32 on the CPU, in eval mode, adapters merged, with softmax."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ExportError(f"temperature {temperature} is not a positive number; calibrate again")
    return nn.Sequential(merge(copy.deepcopy(network)), Calibrated(temperature)).cpu().float().eval()


def trained_answer(model: nn.Module) -> Answer:
    """A `calibrated` network as a function of arrays."""

    @torch.inference_mode()
    def answer(pixels: np.ndarray) -> np.ndarray:
        result: np.ndarray = model(torch.from_numpy(np.array(pixels))).numpy()
        return result

    return answer


def to_onnx(model: nn.Module, image: ImageSpec, *, tolerance: float) -> bytes:
    """Export a `calibrated` network. Raises `ExportError` if the graph is invalid, static, or answers differently."""
    # A sample batch of 1 would be taken for a constant: some networks come out static, without a warning.
    sample = torch.zeros(2, image.height, image.width, image.channels, dtype=torch.uint8)
    try:
        with silence():
            program = torch.onnx.export(
                WithEnergy(model).eval(),
                (sample,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[session.INPUT],
                output_names=[session.OUTPUT, session.ENERGY],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
            )
        if program is None:
            raise ExportError("the exporter returned nothing; use torch 2.11 or newer")
        graph = cleaned(program.model_proto)
        onnx.checker.check_model(graph, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"this network cannot be exported to ONNX: {lines[0]}") from error
    raw: bytes = graph.SerializeToString(deterministic=True)
    gate(raw, model, image, tolerance=tolerance)
    return raw


def compare(trained: Answer, exported: Answer, batches: Iterable[np.ndarray], *, tolerance: float) -> None:
    """Both answers to every batch. Raises `ExportError` where they differ by more than `tolerance`."""
    tally = Tally(1)
    for pixels in batches:
        tally.add(trained(pixels), exported(pixels), np.zeros(len(pixels), dtype=np.int64))
    tally.require(tolerance)


def gate(raw: bytes, model: nn.Module, image: ImageSpec, *, tolerance: float) -> None:
    graph = session.connect(raw)
    random = np.random.default_rng(0)
    shape = (image.height, image.width, image.channels)
    batches = [random.integers(0, 256, (n, *shape), dtype=np.uint8) for n in GATE_BATCHES]
    try:
        compare(trained_answer(model), lambda pixels: session.answer(graph, pixels), batches, tolerance=tolerance)
        for pixels in batches:
            _same_energies(WithEnergy(model), graph, pixels, tolerance=tolerance)
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"the exported model fails on batches of {GATE_BATCHES}: {str(error)[:200]}") from error


@torch.inference_mode()
def _same_energies(
    model: nn.Module, graph: onnxruntime.InferenceSession, pixels: np.ndarray, *, tolerance: float
) -> None:
    """Energies have no bound, and one near 0 may come of large logits: an error is measured by the largest of the
    batch. They are told as hundredths of the test pictures, so ten times what a probability may lose is not seen."""
    expected = model.eval()(torch.from_numpy(pixels))[1].numpy()
    _, found = session.answer_with_energy(graph, pixels)
    allowed = 10 * tolerance * max(1.0, float(np.abs(expected).max()))
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=allowed):
        raise ExportError("the exported model gives other energies than the trained one; " + REMEDY)


def cleaned(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Without the exporter's notes: they hold the file paths and stack traces of this machine."""
    del graph.metadata_props[:]
    graph.doc_string = ""
    parts = [graph.graph, *graph.functions]
    ends = [*graph.graph.input, *graph.graph.output, *graph.graph.initializer]
    values = [value for part in parts for value in part.value_info]
    nodes = [node for part in parts for node in part.node]
    for noted in [*parts, *ends, *values, *nodes]:
        del noted.metadata_props[:]
        noted.doc_string = ""
    return graph


@contextmanager
def silence() -> Iterator[None]:
    """The exporter warns and logs about its own insides; what matters it raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
