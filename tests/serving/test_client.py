"""The small client, against the real service and against a server that misbehaves as told."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import toy

from data.errors import InputError
from flows.cli.app import main
from serving.client import Client, ServiceError, UnreachableError

BRIGHT = toy.picture(200)


def test_a_picture_is_classified(service, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(BRIGHT)
    with Client(service.url) as client:
        for picture in (path, BRIGHT):
            answer = client.predict(picture, request_id="mine")
            assert (answer.label, answer.model, answer.request_id) == ("bright", "toy@v1", "mine")
            assert answer.scores[0].probability == answer.probability


def test_several_pictures_are_classified_in_order(service):
    with Client(service.url) as client:
        answers = client.predict_batch([BRIGHT, toy.picture(10)])
    assert [answer.label for answer in answers] == ["bright", "dark"]


def test_the_card_and_readiness_are_told(service):
    with Client(service.url) as client:
        assert client.ready()
        assert client.model()["classes"] == ["bright", "dark"]


def test_a_model_is_asked_for_by_name_and_version(service):
    with Client(service.url) as client:
        for model in ("toy", "toy@v1", "toy@champion"):
            assert client.predict(BRIGHT, model=model).model == "toy@v1"
            assert client.predict_batch([BRIGHT], model=model)[0].model == "toy@v1"
            assert client.model(model)["version"] == "v1"
        with pytest.raises(ServiceError, match="no such version") as caught:
            client.predict(BRIGHT, model="toy@v9")
    assert caught.value.status == 404


def test_a_refusal_carries_the_services_sentence_status_and_request_id(service):
    with Client(service.url) as client, pytest.raises(ServiceError) as caught:
        client.predict(b"text", request_id="r1")
    assert (caught.value.status, caught.value.request_id) == (400, "r1")
    assert "picture" in str(caught.value)


def test_no_service_is_a_sentence_with_the_remedy():
    with Client("http://127.0.0.1:1", retries=0) as client:
        assert not client.ready()
        with pytest.raises(UnreachableError, match="trainserve serve"):
            client.predict(BRIGHT)


def test_a_file_that_is_not_there_is_a_sentence(service, tmp_path):
    with Client(service.url) as client, pytest.raises(InputError, match="cannot be read"):
        client.predict(tmp_path / "nothing.png")


@contextmanager
def answering(*statuses: int, silent: bool = False, retry_after: str | None = None) -> Iterator[str]:
    """A server that answers with these statuses, one after the other, then with 200; or not while the block lasts."""
    left, ended = list(statuses), threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if silent:
                ended.wait()
                return
            status = left.pop(0) if left else 200
            good = {"request_id": "r", "model": "a@1", "label": "x", "probability": 1.0, "scores": []}
            body = json.dumps(good if status == 200 else {"error": "not now"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


def test_saturation_and_no_model_are_retried():
    with answering(429, 503) as url, Client(url) as client:
        assert client.predict(BRIGHT).label == "x"


def test_it_comes_back_no_sooner_than_the_service_said():
    with answering(429, retry_after="1") as url, Client(url) as client:
        begun = time.monotonic()
        assert client.predict(BRIGHT).label == "x"
    assert time.monotonic() - begun >= 1


def test_other_refusals_are_not_retried():
    with answering(400) as url, Client(url) as client, pytest.raises(ServiceError, match="not now"):
        client.predict(BRIGHT)


def test_retries_end():
    with answering(*[503] * 9) as url, Client(url, retries=1) as client, pytest.raises(ServiceError) as caught:
        client.predict(BRIGHT)
    assert caught.value.status == 503


def test_a_service_that_takes_too_long_is_a_sentence():
    with (
        answering(silent=True) as url,
        Client(url, timeout_s=0.2) as client,
        pytest.raises(UnreachableError, match="time"),
    ):
        client.predict(BRIGHT)


def test_the_command_asks_for_a_model_by_name_and_version(service, tmp_path, capsys):
    picture = tmp_path / "a.png"
    picture.write_bytes(BRIGHT)
    asked = ["predict", str(picture), "--url", service.url, "--json", "--model"]
    main([*asked, "toy@v1"])
    assert json.loads(capsys.readouterr().out)["model"] == "toy@v1"
    for wrong, sentence in ((["roses"], "no model of that name"), (["toy", "--bundle", "x"], "give one of them")):
        with pytest.raises(SystemExit):
            main([*asked, *wrong])
        assert sentence in capsys.readouterr().err
