"""Models that change under a running service, and its beginning and end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import toy
from conftest import ROOT, START_S, Running, home_is, running, until

from serving import store
from serving.settings import Settings

pytestmark = pytest.mark.slow  # services of their own; tests/serving/test_live.py promotes within a process

GREY = toy.picture(90)  # dark for toy@v1, bright for toy@v2, whose threshold is 50


class Loop:
    """Requests one after the other, until the block ends."""

    def __init__(self, url: str) -> None:
        self.answers: list[tuple[str, str]] = []  # (model, label)
        self.failures: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=START_S) as client:
            while not self._stop.is_set():
                response = client.post("/predict", files={"image": GREY})
                if response.status_code == 200:
                    self.answers.append((response.json()["model"], response.json()["label"]))
                else:
                    self.failures.append(response.text)
                time.sleep(0.005)

    def __enter__(self) -> "Loop":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that begins with nothing in its store; the tests below run in order and fill it."""
    home = tmp_path_factory.mktemp("empty") / "bentoml"
    with home_is(home), running(home) as service:
        yield service


def save(folder: Path, version: str, *, threshold: float) -> store.ModelRef:
    return store.save(toy.bundle(folder / version, version=version, threshold=threshold))


def served(service: Running) -> str:
    return str(service.get("/model").json().get("model"))


def until_served(service: Running, model: str) -> None:
    until(lambda: served(service) == model)


def test_without_a_model_the_service_is_alive_and_not_ready_and_says_why(empty):
    assert empty.get("/livez").status_code == 200
    for response in (
        empty.get("/readyz"),
        empty.get("/model"),
        httpx.post(empty.url + "/predict", files={"image": GREY}, timeout=START_S),
    ):
        assert response.status_code == 503
        assert "no model has been promoted yet" in response.json()["error"]
        assert int(response.headers["Retry-After"]) > 0


def test_aliases_are_looked_at_often_enough_for_a_promotion_to_be_picked_up_within_two_seconds():
    assert 4 * Settings().poll_s <= 2, "a look may come late, and opening a model takes time too"


def test_the_first_promotion_is_picked_up(empty, tmp_path):
    store.promote(save(tmp_path, "v1", threshold=127.5), reason="first")
    empty.wait("/readyz")
    assert served(empty) == "toy@v1"


def test_a_promotion_reaches_the_service_and_no_request_fails(empty, tmp_path):
    second = save(tmp_path, "v2", threshold=50)
    with Loop(empty.url) as loop:
        until(lambda: bool(loop.answers))
        store.promote(second, reason="better")
        until(lambda: loop.answers[-1][0] == "toy@v2")
    assert loop.failures == []
    assert set(loop.answers) == {("toy@v1", "dark"), ("toy@v2", "bright")}


def test_a_tampered_candidate_is_refused_while_the_old_model_goes_on(empty, tmp_path):
    bad = save(tmp_path, "v3", threshold=200)
    model = store.path(bad) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with Loop(empty.url) as loop:
        store.promote(bad, reason="planted")
        until(lambda: empty.get("/model").json()["refused"] is not None)
    refused = empty.get("/model").json()["refused"]
    assert refused["model"] == "toy@v3"
    assert "changed after export" in refused["reason"]
    assert str(empty.home) not in refused["reason"]
    assert loop.failures == []
    assert {model for model, _ in loop.answers} == {"toy@v2"}
    assert empty.get("/readyz").status_code == 200


def test_after_a_refusal_later_promotions_and_rollbacks_still_work(empty, tmp_path):
    store.promote(save(tmp_path, "v4", threshold=127.5), reason="after the refusal")
    until_served(empty, "toy@v4")
    until(lambda: empty.get("/model").json()["refused"] is None)
    store.promote(store.resolve("toy@v2"), reason="")
    until_served(empty, "toy@v2")
    store.rollback("toy", reason="by hand")
    until_served(empty, "toy@v4")


def test_the_service_says_little_and_shows_no_stack_trace(empty):
    log = empty.log.read_text()
    assert log.startswith(f"serving no model yet on {empty.url}")
    assert "Traceback" not in log
    assert len(log.splitlines()) <= 8
    assert log.count("toy@v3 is refused") == 1, "and not at every look"


def test_a_service_on_a_port_in_use_says_so_and_exits_with_2(empty):
    environment = {**os.environ, "TRAINSERVE_PORT": str(empty.port), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "serving.start"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == 2
    assert f"port {empty.port} on 127.0.0.1 is in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_sigterm_stops_the_service_and_frees_the_port(empty):
    empty.process.send_signal(signal.SIGTERM)
    assert empty.process.wait(START_S) == 0
    until(lambda: is_free(empty.port))
    assert "Traceback" not in empty.log.read_text()


def is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def test_a_killed_supervisor_takes_both_workers_along(tmp_path, toy_bundle):
    home = tmp_path / "bentoml"
    with home_is(home):
        store.promote(store.save(toy_bundle), reason="")
    with running(home, workers="2") as service:
        until(lambda: 'trainserve_ready{name="toy"} 2.0' in service.get("/metrics").text)
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(START_S)
        until(lambda: is_free(service.port))


def test_a_worker_that_was_starting_ends_with_a_killed_supervisor_too(tmp_path, toy_bundle):
    home = tmp_path / "bentoml"
    with home_is(home):
        store.promote(store.save(toy_bundle), reason="")
    with running(home) as service:
        supervisor = psutil.Process(service.process.pid)
        (first,) = supervisor.children()
        first.kill()
        until(lambda: any(child.pid != first.pid for child in supervisor.children()))
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(START_S)
        until(lambda: is_free(service.port))
