"""An exported graph without what it does not need: onnxslim folds constants and takes out nodes that do nothing.

https://github.com/inisis/OnnxSlim. What comes out is held to what went in; anything against it, and that is taken.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import onnx

from models.bundle.graph import cleaned, silence

ITERATIONS = "ONNXSLIM_MAX_ITER"  # it reads this; what a user has there is not to decide what a model is


def slimmed(graph: bytes, check: Callable[[bytes], None]) -> tuple[bytes, str]:
    """The graph to go on with, and a sentence on it. `check` raises where a graph does not answer as it should."""
    try:
        with silence(), _its_own():
            import onnxslim  # late: not everybody who exports has it, and it imports sympy

            raw = _written(onnxslim.slim(onnx.load_from_string(graph)))
        check(raw)
    except ImportError as error:
        return graph, f"as exported: {error.name} is not installed"
    except Exception as error:  # noqa: BLE001 - of any library that it uses; the graph that went in is a good one
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        reason = re.sub(r"\S*/\S*", "...", first)[:200]  # without paths: the card is shown to anybody
        return graph, f"as exported: what onnxslim makes of it does not do ({reason})"
    if len(raw) >= len(graph):
        return graph, "as exported: onnxslim finds nothing to take away"
    return raw, f"by onnxslim: {_nodes(raw)} nodes of {_nodes(graph)}, {len(raw):,} bytes of {len(graph):,}"


def _written(proto: onnx.ModelProto) -> bytes:
    made = cleaned(proto)
    del made.graph.value_info[:]  # shapes along the way, which whoever reads a graph infers anyway
    onnx.checker.check_model(made, full_check=True)
    raw: bytes = made.SerializeToString(deterministic=True)
    return raw


def _nodes(graph: bytes) -> int:
    return len(onnx.load_from_string(graph).graph.node)


@contextmanager
def _its_own() -> Iterator[None]:
    """Its settings are not the user's, and its handler does not stay."""
    given = os.environ.pop(ITERATIONS, None)
    known = {name: list(logging.getLogger(name).handlers) for name in ("onnxslim", "")}
    try:
        yield
    finally:
        if given is not None:
            os.environ[ITERATIONS] = given
        for name, before in known.items():
            logging.getLogger(name).handlers[:] = before
