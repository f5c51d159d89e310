"""What a stranger gets who asks as the documentation says."""

import base64
import re

import httpx
import numpy as np
import pytest
import toy

from models.bundle.bundle import Bundle

BRIGHT = toy.picture(200)
DARK = toy.picture(20)


def test_a_multipart_picture_is_classified(client):
    response = client.post("/predict", files={"image": ("rose.png", BRIGHT, "image/png")})
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"request_id", "model", "label", "probability", "scores"}
    assert answer["model"] == "toy@v1"
    assert answer["label"] == "bright"
    assert [score["label"] for score in answer["scores"]] == ["bright", "dark"]
    assert sum(score["probability"] for score in answer["scores"]) == pytest.approx(1)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_multipart_json_and_raw_body_give_the_bundles_own_answer(client, toy_bundle, format):
    file = toy.picture(140, format=format)
    expected = Bundle.open(toy_bundle).classify(file)
    answers = [
        client.post("/predict", files={"image": file}),
        client.post("/predict", json={"image": base64.b64encode(file).decode()}),
        client.post("/predict", content=file, headers={"Content-Type": f"image/{format.lower()}"}),
    ]
    for answer in answers:
        assert answer.json()["label"] == expected.label
        assert answer.json()["probability"] == expected.probability


def test_a_batch_is_answered_in_order_by_one_model(client):
    files = [("images", picture) for picture in (BRIGHT, DARK, BRIGHT)]
    answer = client.post("/predict_batch", files=files).json()
    assert answer["model"] == "toy@v1"
    assert [prediction["label"] for prediction in answer["predictions"]] == ["bright", "dark", "bright"]


def test_the_senders_request_id_comes_back_in_header_and_answer(client):
    response = client.post("/predict", files={"image": BRIGHT}, headers={"X-Request-Id": "abc-1"})
    assert response.headers["X-Request-Id"] == response.json()["request_id"] == "abc-1"


def test_a_request_id_that_could_forge_a_log_line_is_replaced(client):
    response = client.post("/predict", files={"image": BRIGHT}, headers={"X-Request-Id": "a b<script>"})
    assert re.fullmatch(r"[0-9a-f]{32}", response.json()["request_id"])


def test_the_model_card_is_the_bundles(client, toy_bundle):
    answer = client.get("/model").json()
    card = Bundle.open(toy_bundle).card.model_dump(mode="json")
    assert {key: answer[key] for key in card} == card
    assert answer["model"] == "toy@v1"
    assert answer["provider"] == "CPUExecutionProvider"
    assert (answer["variant"], answer["variant_reason"]) == ("float", "the bundle has no other graph")
    assert answer["refused"] is None


def test_the_golden_samples_can_be_seen_and_sent(client):
    samples = client.get("/samples").json()["samples"]
    assert [sample["label"] for sample in samples] == list(toy.TRUE)
    for sample, label in zip(samples, ("dark", "dark", "bright", "bright", "dark"), strict=True):
        picture = client.get(sample["url"])
        assert picture.headers["Content-Type"] == "image/png"
        assert client.post("/predict", files={"image": picture.content}).json()["label"] == label


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_the_page_is_served_under_a_policy_that_allows_its_own_script_only(client, path):
    response = client.get(path)
    assert response.headers["Content-Type"].startswith("text/html")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src 'sha256-" in policy


def test_the_page_is_one_file_that_can_be_read_through(client):
    assert len(client.get("/ui").text.splitlines()) < 400


def test_the_page_loads_nothing_from_elsewhere(client):
    assert not re.findall(r"https?://|//cdn", client.get("/ui").text.replace("http://www.w3.org", ""))


def test_health_is_told(client):
    for path in ("/livez", "/readyz", "/healthz"):
        assert client.get(path).status_code == 200


def test_the_documentation_names_what_there_is(client):
    document = client.get("/docs.json").json()
    assert document["openapi"].startswith("3.")
    for path, operations in document["paths"].items():
        for method in operations:
            wrong = "DELETE" if method != "delete" else "GET"
            assert client.request(wrong, path.replace("{number}", "0")).status_code == 405


def test_every_field_of_an_answer_is_documented(client):
    schema = client.get("/docs.json").json()["components"]["schemas"]["Answer"]
    answer = client.post("/predict", files={"image": BRIGHT}).json()
    assert set(answer) == set(schema["required"])
    judged = {"sure", "unfamiliar"}  # by models that can tell, see test_sure
    assert set(schema["properties"]) == set(answer) | judged


def figures(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_metrics_count_requests_by_route_status_version_and_outcome(client):
    key = 'trainserve_requests_total{name="toy",outcome="answered",route="predict",status="200",version="v1"}'
    before = figures(client).get(key, 0)
    for _ in range(3):
        client.post("/predict", files={"image": BRIGHT})
    after = figures(client)
    assert after[key] == before + 3
    assert after['trainserve_ready{name="toy"}'] == 1


@pytest.mark.parametrize(
    ("content", "media_type", "path", "reason"),
    [
        (b"text", "image/png", "/predict", "unreadable"),
        (b"x" * 10_485_761, "image/png", "/predict", "too_large"),
        (BRIGHT, "text/plain", "/predict", "wrong_type"),
        (b"{}", "application/json", "/predict", "wrong_fields"),
        (BRIGHT, "image/png", "/predict?model=made-up", "not_found"),
    ],
)
def test_metrics_count_refusals_by_reason(client, content, media_type, path, reason):
    key = f'trainserve_refusals_total{{reason="{reason}",route="predict"}}'
    before = figures(client).get(key, 0)
    assert not client.post(path, content=content, headers={"Content-Type": media_type}).is_success
    assert figures(client)[key] == before + 1


def test_paths_that_strangers_make_up_are_not_counted_one_by_one(client):
    for i in range(20):
        client.get(f"/made-up-{i}")
    assert not [name for name in figures(client) if "made-up" in name]


def test_answers_to_many_at_once_are_those_of_each_alone(service):
    greys = np.linspace(0, 255, 24).astype(int).tolist()
    threshold = 127.5
    import concurrent.futures

    with httpx.Client(base_url=service.url, timeout=60) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda grey: client.post("/predict", files={"image": toy.picture(grey)}), greys))
    for grey, answer in zip(greys, answers, strict=True):
        assert answer.json()["label"] == ("bright" if grey > threshold else "dark")
