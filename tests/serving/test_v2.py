"""The Open Inference Protocol as its text has it."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import toy
from protocol import GREY, INFER, SIDE, WHATS, Ask, answering, behind, image, outputs, pixels, prefixed, refused

from serving import metrics


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    with answering(tmp_path_factory.mktemp("v2")) as ask:
        yield ask


# What there is


@pytest.mark.slow
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
