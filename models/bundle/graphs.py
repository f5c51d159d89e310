"""All graphs that a bundle holds: the exported one, cleaned, and those in fewer bits that proved better."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from data.images import Images
from models.bundle import golden
from models.bundle.bundle import MODEL
from models.bundle.faster import Made, Make, asked
from models.bundle.graph import compare, gate, to_onnx, trained_answer
from models.bundle.parity import Answer
from models.bundle.shown import Shown
from models.bundle.slim import slimmed
from models.bundle.variants import FILES
from models.cards import Variant

SLIM_SHOWN = 64  # test pictures that a slimmed graph has to answer like the network


@dataclass(frozen=True)
class Graphs:
    exported: bytes
    slimmed: str | None  # what onnxslim did; None: it was not asked to
    others: tuple[Made, ...]

    @property
    def variants(self) -> tuple[Variant, ...]:
        return tuple(made.variant for made in self.others)

    @property
    def kept(self) -> dict[str, bytes]:
        return {made.variant.name: made.graph for made in self.others if made.graph is not None}

    @property
    def answers(self) -> dict[str, Answer]:
        """Those of `kept`."""
        return {name: asked(graph) for name, graph in self.kept.items()}

    def without(self, name: str, fault: str) -> "Graphs":
        """One is not kept after all, and says why."""
        told = {"kept": False, "said": f"not kept: {fault}"}
        others: dict[str, Made] = {made.variant.name: made for made in self.others}
        others[name] = Made(variant=others[name].variant.model_copy(update=told), graph=None)
        return replace(self, others=tuple(others.values()))

    def write(self, folder: Path, pixels: np.ndarray) -> None:
        """Each, and what the variants answer to the golden pixels; what is left of others goes."""
        (folder / MODEL).write_bytes(self.exported)
        (folder / "golden").mkdir(exist_ok=True)
        for name in FILES.keys() - self.kept.keys():
            (folder / FILES[name]).unlink(missing_ok=True)
            (folder / golden.variant_file(name)).unlink(missing_ok=True)
        for name, graph in self.kept.items():
            (folder / FILES[name]).write_bytes(graph)
            golden.save_variant(name, asked(graph)(pixels), folder)


def graphs_of(
    model: nn.Module,
    images: Images,
    test: np.ndarray,
    *,
    tolerance: float,
    at_once: int,
    slim: bool,
    make: Make | None,
) -> Graphs:
    """Of a `calibrated` network; test: rows of `images`; `at_once`: pictures. Raises `ExportError`."""
    exported, said = to_onnx(model, images.spec, tolerance=tolerance), None
    if slim:
        exported, said = slimmed(exported, _check(model, images, test, tolerance=tolerance, at_once=at_once))
    return Graphs(exported=exported, slimmed=said, others=make(exported) if make else ())


def _check(
    model: nn.Module, images: Images, test: np.ndarray, *, tolerance: float, at_once: int
) -> Callable[[bytes], None]:
    shown = Shown(images, test[:SLIM_SHOWN])

    def check(raw: bytes) -> None:
        gate(raw, model, images.spec, tolerance=tolerance)
        compare(trained_answer(model), asked(raw), shown.batches(at_once), tolerance=tolerance)

    return check
