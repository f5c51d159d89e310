"""A service under load while its model changes, while more is asked of it than it can do, and while it is killed."""

import contextlib
import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import candidates
import httpx
import psutil
import pytest
import toy
from candidates import GREY
from conftest import START_S, Running, home_is, running
from load import Answer, Load

from serving import store

pytestmark = pytest.mark.slow
LARGE = toy.picture(200, size=(1500, 1500))  # of few bytes and a long time in a decoder


@pytest.fixture
def started(home: Path, tmp_path: Path) -> Iterator[Running]:
    store.promote(candidates.good(tmp_path, 0), reason="first")
    with home_is(home), running(home, poll_s="0.05") as service:
        service.wait("/readyz")
        yield service


def of_model(service: Running) -> dict[str, object]:
    return dict(service.get("/model").json())


def test_twenty_swaps_and_five_bad_candidates_under_load_fail_no_request(started, tmp_path):
    good = [candidates.good(tmp_path, number) for number in range(1, 21)]
    bad = [candidates.bad(tmp_path, number) for number in range(5)]
    with Load(started.port, GREY, rate=100) as load:
        load.wait_for(50)
        for number, ref in enumerate(good):
            store.promote(ref, reason="better")
            load.wait(lambda ref=ref: load.answers[-1].model == str(ref))
            if number % 4 == 3:
                planted = bad[number // 4]
                store.promote(planted, reason="planted")
                load.wait(lambda ref=planted: (of_model(started)["refused"] or {}).get("model") == str(ref))
        load.wait_for(50)
    failed = [answer for answer in load.answers if answer.status != 200]
    assert failed == []
    assert [answer.json for answer in load.answers if not candidates.is_right(answer.json)] == []
    assert {answer.model for answer in load.answers} == {f"toy@g{number}" for number in range(21)}


def test_ten_times_what_it_can_do_is_refused_in_time_and_what_is_accepted_is_answered(home, tmp_path):
    store.promote(candidates.good(tmp_path, 0), reason="first")
    with running(home, decoders="1", max_queue="4", max_pictures="4") as service:
        service.wait("/readyz")
        with Load(service.port, LARGE, rate=1000, senders=2) as alone:  # each waits for its answer: as fast as it can
            alone.wait_for(10)
            begin, before = time.monotonic(), len(alone.answers)
            alone.wait_for(20)
            capacity = (len(alone.answers) - before) / (time.monotonic() - begin)
        with Load(service.port, LARGE, rate=10 * capacity, senders=40) as load:
            load.wait_for(200)
        refused = [answer for answer in load.answers if answer.status == 429]
        accepted = [answer for answer in load.answers if answer.status == 200]
        assert len(refused) + len(accepted) == len(load.answers)
        assert len(refused) > len(accepted) > 0
        assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        assert {answer.json["label"] for answer in accepted} == {"bright"}
        for _ in range(10):  # at once, with no time to recover
            assert httpx.post(f"{service.url}/predict", files={"image": GREY}, timeout=START_S).status_code == 200


def begun(port: int) -> socket.socket:
    """A request whose body the service has begun to read: it says so by asking for it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=START_S)
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: {len(GREY)}\r\n"
    connection.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 100")
    return connection


def ended(connection: socket.socket) -> tuple[int, bytes]:
    connection.sendall(GREY)
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def test_at_sigterm_every_accepted_request_is_answered(started):
    with Load(started.port, GREY, rate=100) as load:
        load.wait_for(50)
        connections = [begun(started.port) for _ in range(8)]
        started.process.send_signal(signal.SIGTERM)
        load.wait(lambda: load.answers[-1].status == 0)  # nobody new is let in
        answers = [ended(connection) for connection in connections]
    assert [status for status, _ in answers] == [200] * 8
    assert started.process.wait(START_S) == 0
    assert {answer.status for answer in load.answers} == {0, 200}
    assert [answer.broken for answer in load.answers if not is_unread(answer)] == []
    assert "Traceback" not in started.log.read_text()


def is_unread(answer: Answer) -> bool:
    """Answered, or sent to a service that did not answer with a single byte."""
    never = ("ConnectionRefused", "ConnectionReset", "RemoteDisconnected", "BrokenPipe")
    return answer.status > 0 or answer.broken.startswith(never)


def workers(service: Running) -> set[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(service.process.pid).children()
        return {worker.pid for worker in found if worker.status() != psutil.STATUS_ZOMBIE}
    return set()


def figures(service: Running) -> dict[str, float]:
    text = httpx.get(f"{service.url}/metrics", timeout=START_S).raise_for_status().text
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_ended_comes_back_and_the_other_goes_on(home, tmp_path, how):
    store.promote(candidates.good(tmp_path, 0), reason="first")
    ready = 'trainserve_ready{name="toy"}'
    answered = 'trainserve_requests_total{name="toy",outcome="answered",route="predict",status="200",version="g0"}'
    with running(home, workers="2") as service, Load(service.port, GREY, rate=50, keep=False) as load:
        load.wait(lambda: figures(service).get(ready) == 2)
        before = workers(service)
        counted = figures(service)[answered]
        os.kill(gone := min(before), how)
        load.wait(lambda: gone not in workers(service))
        since = time.monotonic()
        load.wait(lambda: len(workers(service)) == 2)
        load.wait(lambda: figures(service).get(ready) == 2)
        assert figures(service)[answered] >= counted
    failed = [answer for answer in load.answers if answer.status != 200]
    assert [answer for answer in failed if answer.sent > since] == []
    assert len(failed) <= 8, "what the dead one was about, at most one of each sender"
