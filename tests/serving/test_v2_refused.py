"""What a stranger gets who sends something else than the Open Inference Protocol has."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol import GREY, INFER, Ask, answering, behind, image, outputs, pixels, prefixed, refused

from serving.http import tensors


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    with answering(tmp_path_factory.mktemp("v2")) as ask:
        yield ask


def infer(ask: Ask, **tensor: Any) -> str:
    return refused(ask("POST", INFER, json={"inputs": [{**pixels(), **tensor}]}))


@pytest.mark.parametrize(
    "shape",
    [
        [2**31, 2**31, 2**31, 2**31],
        [1, 2**62, 16, 3],
        [-1, 16, 16, 3],
        [1, -16, -16, 3],
        [0, 16, 16, 3],
        [5, 16, 16, 3],
        [16, 16, 3],
        [1, 3, 16, 16],
        [1, 17, 16, 3],
        [2, 16, 16, 3],
        [10**400, 16, 16, 3],
        [1.0, 16, 16, 3],
        [True, 16, 16, 3],
        ["1", 16, 16, 3],
        [1] * 10_000,
        [],
        None,
        16,
        {},
    ],
    ids=lambda shape: str(shape)[:24],
)
def test_shapes_that_are_not_the_models_or_not_the_datas_are_refused(ask: Ask, shape: Any):
    infer(ask, shape=shape)
    raw = behind(pixels(shape=shape), GREY.tobytes())
    refused(ask("POST", INFER, **raw))


@pytest.mark.parametrize(
    "data",
    [
        None,
        "AAAA",
        [],
        GREY.ravel().tolist()[:-1],
        GREY.tolist()[0],
        [[GREY[0].ravel().tolist()]],
        [200] * 767 + [256],
        [200] * 767 + [-1],
        [200] * 767 + [10**300],
        [200] * 767 + ["7"],
        [200] * 767 + [True],
        [200] * 767 + [None],
        [200] * 767 + [[1]],
        [[[[200, 200, 200]] * 16] * 15 + [[[200, 200, 200]] * 15 + [[200, 200]]]],
    ],
    ids=lambda data: str(data)[-24:],
)
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_data_that_is_no_pixels_is_refused(ask: Ask, data: Any, datatype: str):
    infer(ask, data=data, datatype=datatype)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.1, 255.1, 1e30])
def test_floats_that_are_no_pixels_are_refused(ask: Ask, value: float):
    floats = GREY.astype("<f4")
    floats[0, 3, 3, 1] = value
    tensor = pixels(datatype="FP32", data=floats.ravel().tolist())
    assert "0 to 255" in refused(ask("POST", INFER, content=json.dumps({"inputs": [tensor]})))
    assert "0 to 255" in refused(ask("POST", INFER, **behind(tensor, floats.tobytes())))


def test_pixels_that_somebody_scaled_already_are_refused(ask: Ask):
    scaled = GREY.astype("<f4") / 255
    assert "0..1" in refused(ask("POST", INFER, **behind(pixels(datatype="FP32"), scaled.tobytes())))
    black = np.zeros_like(scaled)
    assert outputs(ask("POST", INFER, **behind(pixels(datatype="FP32"), black.tobytes())))["label"] == ["dark"]


@pytest.mark.parametrize("datatype", ["INT8", "FP64", "BYTES", "uint8", "", None, 8, []])
def test_other_datatypes_are_refused(ask: Ask, datatype: Any):
    infer(ask, datatype=datatype)
    if datatype != "BYTES":
        refused(ask("POST", INFER, json={"inputs": [{**image(toy.picture(1)), "datatype": datatype}]}))


@pytest.mark.parametrize(
    "inputs",
    [
        None,
        [],
        {},
        "image",
        [None],
        [[]],
        [image(), pixels()],
        [pixels(), pixels()],
        [{}] * 1_000,
        [pixels(name="x")],
        [pixels(name=["pixels"])],
        [pixels(name=None)],
        [pixels(parameters=[])],
        [pixels(parameters={"binary_data_size": 768})],
    ],
    ids=lambda inputs: str(inputs)[:24],
)
def test_anything_but_one_input_that_there_is_is_refused(ask: Ask, inputs: Any):
    refused(ask("POST", INFER, json={"inputs": inputs}))


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        "label",
        [None],
        [{}],
        [{"name": "x"}],
        [{"name": "label"}] * 2,
        [{"name": "label"}] * 1_000,
        [{"name": "label", "parameters": {"binary_data": 1}}],
        [{"name": "label", "parameters": {"classification": 1}}],
        [{"name": "probabilities", "parameters": {"classification": 0}}],
        [{"name": "probabilities", "parameters": {"classification": True}}],
        [{"name": "probabilities", "parameters": 3}],
    ],
    ids=lambda outputs: str(outputs)[:80],
)
def test_outputs_that_there_are_not_are_refused(ask: Ask, outputs: Any):
    refused(ask("POST", INFER, json={"inputs": [pixels()], "outputs": outputs}))


@pytest.mark.parametrize("id", [1, [], {}, True, "x" * 257])
def test_an_id_is_a_short_string(ask: Ask, id: Any):
    refused(ask("POST", INFER, json={"id": id, "inputs": [pixels()]}))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 90_000, b'{"a":' * 9_000, b"1" * 5000])
def test_what_is_no_json_is_refused(ask: Ask, body: bytes):
    refused(ask("POST", INFER, content=body), 400)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"', b"NaN"])
def test_what_is_no_object_is_refused(ask: Ask, body: bytes):
    refused(ask("POST", INFER, content=body))


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "", "0", "5", "99999999", "9" * 400, "1_0", "\u0663"])
def test_a_length_of_the_json_that_is_not_its_length_is_refused(ask: Ask, length: str):
    request = behind(pixels(), GREY.tobytes())
    request["headers"] = {"Inference-Header-Content-Length": length.encode()}
    refused(ask("POST", INFER, **request), 400)


def test_bytes_that_are_too_few_or_too_many_are_refused(ask: Ask):
    refused(ask("POST", INFER, **behind(pixels(), GREY.tobytes()[:-1])))
    refused(ask("POST", INFER, **behind(pixels(), GREY.tobytes() + b"x")))
    refused(ask("POST", INFER, **behind(pixels(datatype="FP32"), GREY.tobytes())))
    for size in (767, 769, -1, 2**70, "768", True, 768.0):
        request = behind(pixels(), GREY.tobytes())
        text = json.dumps({"inputs": [{**pixels(), "data": None, "parameters": {"binary_data_size": size}}]}).encode()
        request = {
            "content": text + GREY.tobytes(),
            "headers": {"Inference-Header-Content-Length": str(len(text))},
        }
        assert "which is 768" in refused(ask("POST", INFER, **request), 400)
    text = json.dumps({"inputs": [pixels()]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    assert "no binary_data_size" in refused(ask("POST", INFER, content=text + b"x", headers=headers), 400)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        prefixed(toy.picture(1)),
        prefixed(toy.picture(1), toy.picture(1)) + b"x",
        prefixed(toy.picture(1), toy.picture(1), toy.picture(1)),
        b"\xff\xff\xff\xff" + toy.picture(1) * 2,
        prefixed(toy.picture(1)) + struct.pack("<I", 2**31) + toy.picture(1),
    ],
    ids=["nothing", "a byte", "one", "more", "three", "a length of 4 GB", "a length of 2 GB"],
)
def test_elements_that_are_not_as_long_as_they_say_are_refused(ask: Ask, data: bytes):
    refused(ask("POST", INFER, **behind({**image(), "shape": [2]}, data)))


def test_pictures_that_are_none_are_named(ask: Ask):
    bad = image(toy.picture(1), b"text")
    assert "picture 2 of 2" in refused(ask("POST", INFER, json={"inputs": [bad]}), 400)
    assert "picture 2 of 2 is empty" in refused(ask("POST", INFER, json={"inputs": [image(b"x", b"")]}), 400)
    raw = behind({**image(), "shape": [2]}, prefixed(toy.picture(1), b""))
    assert "picture 2 of 2 is empty" in refused(ask("POST", INFER, **raw), 400)
    for data in ([1], ["***"], [None], [["eA=="]], ["eA==", "eA=="], ["\ud800"]):
        content = json.dumps({"inputs": [{**image(b"x"), "data": data}]})
        refused(ask("POST", INFER, content=content))


@pytest.mark.parametrize("shape", [[1, 1, 1], [1, 2], [1, 16, 16, 3]])
def test_pictures_have_one_dimension(ask: Ask, shape: list[int]):
    refused(ask("POST", INFER, json={"inputs": [{**image(toy.picture(1)), "shape": shape}]}))


def test_limits_hold(ask: Ask, monkeypatch: pytest.MonkeyPatch):
    assert "from 1 to 4" in refused(ask("POST", INFER, json={"inputs": [image(*[toy.picture(1)] * 5)]}))
    assert "100,000" in refused(ask("POST", INFER, json={"inputs": [image(b"x" * 80_000)]}), 413)
    assert "400,000" in refused(ask("POST", INFER, **behind({**image(), "shape": [1]}, b"x" * 400_000)), 413)
    with monkeypatch.context() as patched:
        patched.setattr(tensors, "MOST_VALUES", 500)
        assert "500 values" in refused(ask("POST", INFER, json={"inputs": [pixels()]}), 413)
    large = toy.picture(200, size=(200, 200), format="BMP")
    assert len(large) > 100_000
    tensor = {**image(), "shape": [1]}
    assert outputs(ask("POST", INFER, **behind(tensor, prefixed(large))))["label"] == ["bright"]


def test_a_compressed_body_is_refused(ask: Ask):
    assert "compressed" in refused(ask("POST", INFER, content=b"x", headers={"Content-Encoding": "gzip"}), 415)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100)
@given(data=st.data())
def test_whatever_stands_wherever_is_answered_or_refused_in_a_sentence(ask: Ask, data: st.DataObject):
    tensor = data.draw(st.sampled_from([image(toy.picture(1)), pixels()]))
    chosen = {"name": "label", "parameters": {"binary_data": False, "classification": None}}
    content = {"id": "1", "parameters": {}, "inputs": [{**tensor, "parameters": {}}], "outputs": [chosen]}
    place = data.draw(st.sampled_from([content, content["inputs"][0], chosen, chosen["parameters"]]))
    place[data.draw(st.sampled_from([*place, "binary_data_size"]))] = data.draw(JSON)
    response = ask("POST", INFER, content=json.dumps(content))
    assert response.status_code in (200, 400, 422), response.text
    assert response.status_code == 200 or refused(response, response.status_code)


@settings(max_examples=50)
@given(body=st.binary(max_size=200), length=st.integers(0, 220))
def test_any_bytes_are_refused_in_a_sentence(ask: Ask, body: bytes, length: int):
    headers = {"Inference-Header-Content-Length": str(length)}
    response = ask("POST", INFER, content=body, headers=headers)
    assert response.status_code in (400, 422)
