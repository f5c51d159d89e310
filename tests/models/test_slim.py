"""An exported graph without what it does not need, or as it was."""

import logging
import os
import sys

import numpy as np
import onnx
import pytest

from models.bundle.faster import asked
from models.bundle.graph import calibrated, to_onnx
from models.bundle.slim import ITERATIONS, slimmed
from tests.models.bundles import IMAGE, Tiny

PIXELS = np.random.default_rng(0).integers(0, 256, (3, IMAGE.height, IMAGE.width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph() -> bytes:
    """With nodes that do nothing, and a note of where it was made."""
    proto = onnx.load_from_string(to_onnx(calibrated(Tiny().eval(), 1.5), IMAGE, tolerance=1e-3))
    last = proto.graph.node[-1]
    last.output[0] = "before"
    for i in range(5):
        source, target = ("before" if i == 0 else f"idle-{i}"), ("probabilities" if i == 4 else f"idle-{i + 1}")
        proto.graph.node.append(onnx.helper.make_node("Identity", [source], [target]))
    raw: bytes = proto.SerializeToString(deterministic=True)
    return raw


def accepts(raw: bytes) -> None:
    """Whatever it is."""


def test_what_does_nothing_is_taken_out_and_the_answers_stay(graph: bytes):
    raw, said = slimmed(graph, accepts)
    assert len(raw) < len(graph)
    assert "Identity" not in {node.op_type for node in onnx.load_from_string(raw).graph.node}
    assert said.startswith("by onnxslim: ")
    assert np.allclose(asked(raw)(PIXELS), asked(graph)(PIXELS), atol=1e-6)
    again, said = slimmed(raw, accepts)
    assert again == raw
    assert said == "as exported: onnxslim finds nothing to take away"


def test_one_that_answers_otherwise_is_not_taken(graph: bytes):

    def refuses(_: bytes) -> None:
        raise ValueError("probabilities differ by 0.3 in /home/me/model.onnx\nand more")

    raw, said = slimmed(graph, refuses)
    assert raw == graph
    assert said == "as exported: what onnxslim makes of it does not do (probabilities differ by 0.3 in ...)"


def test_it_leaves_the_users_settings_and_loggers_alone(
    graph: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(ITERATIONS, "1")
    before = list(logging.getLogger().handlers), list(logging.getLogger("onnxslim").handlers)
    slimmed(graph, accepts)
    assert os.environ[ITERATIONS] == "1"
    assert (list(logging.getLogger().handlers), list(logging.getLogger("onnxslim").handlers)) == before
    assert capfd.readouterr() == ("", "")


def test_without_it_the_graph_stays_and_the_card_says_so(graph: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxslim", None)
    assert slimmed(graph, accepts) == (graph, "as exported: onnxslim is not installed")
