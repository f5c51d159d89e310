"""tritonclient, which others wrote, against the service: each understands what the other sends."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import tritonclient.http as triton
from conftest import Running
from tritonclient.utils import InferenceServerException

from models.bundle.bundle import Bundle

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "open-inference-protocol.md"
FILES = [toy.picture(200), toy.picture(20), toy.picture(130, format="JPEG")]
NOISE = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def server(service: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}", network_timeout=90, connection_timeout=90) as server:
        yield server


@pytest.fixture(scope="module")
def bundle(toy_bundle) -> Bundle:
    return Bundle.open(toy_bundle)


def pixels(values: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("pixels", list(values.shape), "UINT8" if values.dtype == np.uint8 else "FP32")
    return tensor.set_data_from_numpy(values, binary_data=binary)


def pictures(elements: list[bytes], *, column: bool = False, binary: bool = True) -> triton.InferInput:
    values = np.array(elements, dtype=np.object_)
    values = values[:, None] if column else values
    return triton.InferInput("image", list(values.shape), "BYTES").set_data_from_numpy(values, binary_data=binary)


def test_it_finds_the_server_and_the_model_alive_and_ready(server):
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("toy")
    assert server.is_model_ready("toy", "v1")
    assert not server.is_model_ready("toy", "v9")
    assert not server.is_model_ready("nobody")


def test_it_reads_what_the_server_and_the_model_say_of_themselves(server):
    assert server.get_server_metadata()["name"] == "trainserve"
    told = server.get_model_metadata("toy")
    assert told == server.get_model_metadata("toy", "v1") == server.get_model_metadata("toy", "champion")
    assert told["versions"] == ["v1"]
    assert {one["name"]: (one["datatype"], one["shape"]) for one in told["inputs"] + told["outputs"]} == {
        "image": ("BYTES", [-1]),
        "pixels": ("UINT8", [-1, 16, 16, 3]),
        "probabilities": ("FP32", [-1, 2]),
        "label": ("BYTES", [-1]),
    }
    assert server.get_model_repository_index() == [{"name": "toy", "version": "v1", "state": "READY", "reason": ""}]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("sent", [True, False], ids=["sent in binary", "sent in json"])
@pytest.mark.parametrize("got", [True, False], ids=["got in binary", "got in json"])
def test_pixels_give_the_bundles_own_answer(server, bundle, dtype, sent, got):
    chosen = [triton.InferRequestedOutput(name, binary_data=got) for name in ("label", "probabilities")]
    answer = server.infer("toy", [pixels(NOISE.astype(dtype), binary=sent)], outputs=chosen, request_id="r-7")
    expected = bundle.predict(NOISE)
    given = answer.as_numpy("probabilities")
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, atol=1e-6)
    assert texts(answer.as_numpy("label")) == [("bright", "dark")[k] for k in expected.argmax(1)]
    told = answer.get_response()
    assert (told["id"], told["model_name"], told["model_version"]) == ("r-7", "toy", "v1")


@pytest.mark.parametrize("column", [False, True], ids=["[n]", "[n, 1]"])
def test_picture_files_give_the_bundles_own_answer(server, bundle, column):
    answer = server.infer("toy", [pictures(FILES, column=column)], model_version="v1")
    expected = [bundle.classify(file) for file in FILES]
    assert texts(answer.as_numpy("label")) == [one.label for one in expected]
    assert answer.as_numpy("probabilities").max(axis=1).tolist() == [one.probability for one in expected]


def test_picture_files_in_json_are_base64(server):
    encoded = [base64.b64encode(file) for file in FILES[:2]]
    answer = server.infer("toy", [pictures(encoded, binary=False)])
    assert texts(answer.as_numpy("label")) == ["bright", "dark"]


def test_it_gets_only_what_it_asks_for_and_the_best_classes(server):
    best = triton.InferRequestedOutput("probabilities", class_count=1)
    answer = server.infer("toy", [pictures(FILES[:2])], outputs=[best])
    assert [text.split(":")[1:] for text in texts(answer.as_numpy("probabilities"))] == [["0", "bright"], ["1", "dark"]]
    assert answer.as_numpy("label") is None


def test_many_requests_at_a_time_are_answered_each_with_its_own(service):
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}", concurrency=8) as server:
        waiting = [server.async_infer("toy", [pictures([FILES[i % 2]])], request_id=str(i)) for i in range(24)]
        answers = [one.get_result() for one in waiting]
    assert [answer.get_response()["id"] for answer in answers] == [str(i) for i in range(24)]
    assert [texts(answer.as_numpy("label")) for answer in answers] == [["bright"], ["dark"]] * 12


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: {"inputs": [pictures([b"text"])]}, "no readable JPEG, PNG"),
        (lambda: {"inputs": [pixels(NOISE[:, :8])]}, "must have shape [n, 16, 16, 3]"),
        (lambda: {"inputs": [pixels(np.full((1, 16, 16, 3), np.nan, np.float32))]}, "from 0 to 255"),
        (lambda: {"inputs": [pixels(np.repeat(NOISE, 2, axis=0))]}, "from 1 to 8"),
        (lambda: {"inputs": [pixels(NOISE), pictures(FILES)]}, "a list of one object"),
        (lambda: {"inputs": [pixels(NOISE)], "outputs": [triton.InferRequestedOutput("x")]}, "no output of that name"),
        (lambda: {"inputs": [pixels(NOISE)], "model_version": "v9"}, "no such version"),
        (lambda: {"inputs": [pixels(NOISE)], "request_compression_algorithm": "gzip"}, "compressed"),
    ],
)
def test_it_shows_our_sentence_where_a_request_is_refused(server, ask: Any, sentence: str):
    with pytest.raises(InferenceServerException) as refused:
        server.infer("toy", **ask())
    assert sentence in refused.value.message()
    assert refused.value.status().startswith("4")


def test_the_example_of_the_documentation_works(service, tmp_path, monkeypatch, capsys):
    (tmp_path / "rose.jpg").write_bytes(FILES[2])
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.S)
    exec(example.replace("127.0.0.1:3000", f"127.0.0.1:{service.port}").replace("flowers", "toy"), {})
    assert capsys.readouterr().out.startswith("[b'bright'] [[0.5")


def texts(values: np.ndarray) -> list[str]:
    """BYTES come back as bytes from binary and as str from JSON."""
    return [one.decode() if isinstance(one, bytes) else one for one in values.ravel()]
