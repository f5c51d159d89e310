"""The Open Inference Protocol as its text has it, and what a stranger gets who sends something else."""

import asyncio
import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import toy
from conftest import home_is
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import challengers, metrics, store
from serving.http import app, tensors
from serving.inference import Inference
from serving.refs import ModelRef
from serving.settings import Settings

Ask = Callable[..., httpx.Response]
WHATS = ("", "/ready", "/infer")
INFER = "/v2/models/toy/infer"
SIDE = 16
GREY = np.full((1, SIDE, SIDE, 3), 200, dtype=np.uint8)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask a service in this process. toy@low, bright above 50, is in service and toy@high, bright above 220, its
    challenger; the same of `tried`, on trial; lamps@1 takes smaller pictures; `none` has no model."""
    folder: Path = tmp_path_factory.mktemp("v2")
    limits = {"max_pictures": 4, "max_upload_bytes": 100_000, "max_batch_upload_bytes": 400_000}
    with home_is(folder / "bentoml"):
        for name in ("toy", "tried"):
            for version, threshold in (("low", 50), ("high", 220)):
                bundle = toy.bundle(folder / name / version, name=name, version=version, threshold=threshold)
                store.save(bundle)
            store.promote(ModelRef(name=name, version="low"), reason="")
        challengers.challenge(ModelRef(name="toy", version="high"), reason="")
        challengers.try_out(ModelRef(name="tried", version="high"), share=1, shadow=False, reason="")
        lamps = toy.bundle(folder / "lamps", name="lamps", version="1", side=8)
        store.promote(store.save(lamps), reason="")
        inference = Inference(Settings(model="toy,lamps,tried,none", **limits))
        inference.start()
        built = app.build(inference)

        async def one(method: str, path: str, **content: Any) -> httpx.Response:
            transport = httpx.ASGITransport(built, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **content)

        yield lambda method, path, **content: asyncio.run(one(method, path, **content))
        inference.stop()


def base64_of(file: bytes) -> str:
    return base64.b64encode(file).decode()


def image(*files: bytes) -> dict[str, Any]:
    """An input in JSON."""
    return {"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": [base64_of(file) for file in files]}


def pixels(**changes: Any) -> dict[str, Any]:
    data = GREY.ravel().tolist()
    return {"name": "pixels", "datatype": "UINT8", "shape": list(GREY.shape), "data": data, **changes}


def behind(tensor: dict[str, Any], data: bytes, **head: Any) -> dict[str, Any]:
    """A request with the tensor's data behind its JSON."""
    tensor = {name: value for name, value in tensor.items() if name != "data"}
    text = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}], **head}).encode()
    return {"content": text + data, "headers": {"Inference-Header-Content-Length": str(len(text))}}


def prefixed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def outputs(response: httpx.Response) -> dict[str, Any]:
    """Of an answer in JSON: the data by name."""
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def refused(response: httpx.Response, status: int = 422) -> str:
    assert response.status_code == status, response.text
    answer = response.json()
    assert set(answer) == {"error", "request_id"}
    assert "\n" not in answer["error"]
    return str(answer["error"])


# What there is


def test_the_server_says_what_it_is_and_that_it_is_alive(ask: Ask):
    assert ask("GET", "/v2").json() == {
        "name": "trainserve",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data", "classification"],
    }
    assert ask("GET", "/v2/health/live").json() == {"live": True}


def test_the_server_is_ready_when_every_name_has_a_model(ask: Ask):
    assert "'none'" in refused(ask("GET", "/v2/health/ready"), 503)


def test_a_model_says_what_goes_in_and_out_and_which_versions_can_be_asked_for(ask: Ask):
    assert ask("GET", "/v2/models/toy").json() == {
        "name": "toy",
        "versions": ["high", "low"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, 16, 16, 3]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }
    assert ask("GET", "/v2/models/lamps/versions/1").json()["inputs"][1]["shape"] == [-1, 8, 8, 3]


@pytest.mark.parametrize("path", ["toy", "toy/versions/low", "toy/versions/high", "toy/versions/challenger", "lamps"])
def test_what_can_answer_is_ready(ask: Ask, path: str):
    assert ask("GET", f"/v2/models/{path}/ready").json() == {"name": path.partition("/")[0], "ready": True}


@pytest.mark.parametrize("path", ["none", "nobody", "toy/versions/3", "toy/versions/previous", "toy/versions/..%2Flow"])
@pytest.mark.parametrize("what", WHATS)
def test_what_cannot_answer_is_not(ask: Ask, path: str, what: str):
    method = "POST" if what == "/infer" else "GET"
    refused(ask(method, f"/v2/models/{path}{what}", json={}), 503 if path == "none" else 404)


def test_the_index_names_what_is_in_service(ask: Ask):
    assert [tuple(one.values())[:3] for one in ask("POST", "/v2/repository/index").json()] == [
        ("toy", "low", "READY"),
        ("lamps", "1", "READY"),
        ("tried", "low", "READY"),
        ("none", "", "UNAVAILABLE"),
    ]


def test_what_only_other_servers_have_is_not_here(ask: Ask):
    for path in ("/v2/models/toy/config", "/v2/models/stats", "/v2/logging"):
        refused(ask("GET", path), 404)


def test_the_documentation_has_every_path_and_every_field(ask: Ask):
    document = ask("GET", "/docs.json").json()
    served = {path for path in document["paths"] if path.startswith("/v2")}
    models = {f"/v2/models/{{name}}{version}{what}" for version in ("", "/versions/{version}") for what in WHATS}
    assert served == models | {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index"}
    answers = {
        "V2Server": ask("GET", "/v2").json(),
        "V2Model": ask("GET", "/v2/models/toy").json(),
        "V2Ready": ask("GET", "/v2/models/toy/ready").json(),
        "V2Answer": ask("POST", INFER, json={"id": "1", "inputs": [pixels()]}).json(),
    }
    for name, answer in answers.items():
        assert set(document["components"]["schemas"][name]["properties"]) == set(answer), name


# Answers


def test_pictures_in_json_are_base64(ask: Ask):
    answer = ask("POST", INFER, json={"id": "a-1", "inputs": [image(toy.picture(200), toy.picture(10))]})
    assert outputs(answer)["label"] == ["bright", "dark"]
    assert {name: answer.json()[name] for name in ("id", "model_name", "model_version")} == {
        "id": "a-1",
        "model_name": "toy",
        "model_version": "low",
    }
    expected = toy.probabilities(np.array([200, 10], dtype=np.uint8).reshape(2, 1, 1, 1), 50)
    np.testing.assert_allclose(outputs(answer)["probabilities"], expected.ravel(), atol=1e-5)


@pytest.mark.parametrize(
    "data",
    [
        GREY.ravel().tolist(),
        GREY.tolist(),
    ],
    ids=["flat", "nested"],
)
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_pixels_in_json_are_flat_or_nested(ask: Ask, data: list[Any], datatype: str):
    answer = ask("POST", INFER, json={"inputs": [pixels(data=data, datatype=datatype)]})
    assert outputs(answer)["label"] == ["bright"]


def test_every_way_to_send_the_same_pixels_gives_the_same_answer(ask: Ask):
    noise = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    shape = list(noise.shape)
    floats = noise.astype("<f4")
    nearly = np.where(floats < 255, floats + 0.25, floats).astype("<f4")
    ways = [
        {"json": {"inputs": [pixels(shape=shape, data=noise.tolist())]}},
        {"json": {"inputs": [pixels(shape=shape, data=floats.ravel().tolist(), datatype="FP32")]}},
        behind(pixels(shape=shape), noise.tobytes()),
        behind(pixels(shape=shape, datatype="FP32"), floats.tobytes()),
        behind(pixels(shape=shape, datatype="FP32"), nearly.tobytes()),
    ]
    answers = [outputs(ask("POST", INFER, **way)) for way in ways]
    assert answers == [answers[0]] * len(ways)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_pictures_in_binary_have_their_length_before_them(ask: Ask, shape: list[int]):
    tensor = {**image(), "shape": shape}
    data = prefixed(toy.picture(10), toy.picture(200))
    assert outputs(ask("POST", INFER, **behind(tensor, data)))["label"] == ["dark", "bright"]


def test_outputs_come_in_the_order_and_form_that_is_asked_for(ask: Ask):
    chosen = [
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "probabilities", "parameters": {"binary_data": False}},
    ]
    answer = ask("POST", INFER, json={"inputs": [image(toy.picture(200))], "outputs": chosen})
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert answer.headers["Content-Type"] == "application/octet-stream"
    head = json.loads(answer.content[:length])
    assert [output["name"] for output in head["outputs"]] == ["label", "probabilities"]
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 10}
    assert len(head["outputs"][1]["data"]) == 2
    assert answer.content[length:] == prefixed(b"bright")


def test_all_outputs_can_be_asked_for_in_binary_at_once(ask: Ask):
    answer = ask("POST", INFER, json={"inputs": [image(toy.picture(200))], "parameters": {"binary_data_output": True}})
    rest = answer.content[int(answer.headers["Inference-Header-Content-Length"]) :]
    assert np.frombuffer(rest[:8], "<f4")[0] == pytest.approx(1, abs=1e-3)
    assert rest[8:] == prefixed(b"bright")


def test_the_most_probable_classes_can_be_asked_for_as_text(ask: Ask):
    chosen = [{"name": "probabilities", "parameters": {"classification": 9}}]
    answer = ask("POST", INFER, json={"inputs": [image(toy.picture(50))], "outputs": chosen}).json()["outputs"]
    assert answer == [
        {
            "name": "probabilities",
            "datatype": "BYTES",
            "shape": [1, 2],
            "data": ["0.500000:0:bright", "0.500000:1:dark"],
        }
    ]


@pytest.mark.parametrize(
    ("version", "label"),
    [("", "bright"), ("/versions/low", "bright"), ("/versions/high", "dark"), ("/versions/champion", "bright"),
     ("/versions/challenger", "dark")],
)  # fmt: skip
def test_versions_and_roles_answer_at_addresses_of_their_own(ask: Ask, version: str, label: str):
    for tensor in (image(toy.picture(200)), pixels()):
        answer = ask("POST", f"/v2/models/toy{version}/infer", json={"inputs": [tensor]})
        assert outputs(answer)["label"] == [label]
        assert answer.json()["model_version"] == ("high" if label == "dark" else "low")


def test_pictures_for_a_name_take_part_in_its_trial_and_pixels_do_not(ask: Ask):
    versions = [
        ask("POST", f"/v2/models/tried{version}/infer", json={"inputs": [tensor]}).json()["model_version"]
        for version in ("", "/versions/low", "/versions/champion")
        for tensor in (image(toy.picture(200)), pixels())
    ]
    assert versions == ["high", *["low"] * 5]


def test_answers_are_counted_by_model(ask: Ask):
    ask("POST", INFER, json={"inputs": [pixels()]})
    labels = b'name="toy",outcome="answered",route="v2_infer",status="200",version="low"'
    assert b"trainserve_requests_total{" + labels + b"}" in metrics.text()


def test_what_some_clients_leave_empty_is_as_if_it_were_not_there(ask: Ask):
    tensor = {**image(toy.picture(200)), "parameters": None}
    content = {"id": None, "parameters": None, "inputs": [tensor], "outputs": [], "model_name": "toy"}
    answer = ask("POST", INFER, json=content)
    assert outputs(answer)["label"] == ["bright"]
    assert "id" not in answer.json()


def test_any_id_goes_back_as_it_came(ask: Ask):
    for id in ("", "ümlaut \u2603", "\ud800", '"\n'):
        content = json.dumps({"id": id, "inputs": [image(toy.picture(200))]})
        assert ask("POST", INFER, content=content).json()["id"] == id


# What is refused


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
