"""Ten thousand requests of which a few bytes were changed: an answer to each, no failure, nothing told, nothing kept.

What fails is named by its number; `mutations.mutant` makes it again.
"""

import contextlib
import http.client
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mutations
import pytest
from conftest import LEAKS, START_S, Running, serving

pytestmark = pytest.mark.slow
MIB = 1024 * 1024
BODIES, RAW, SENDERS = 9_000, 1_000, 4


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("mutations"), toy_bundle, upload_timeout_s="0.2") as service:
        yield service


def wrong(status: int, body: bytes) -> bool:
    return (status >= 500 and status != 503) or bool(LEAKS.search(body.decode("utf-8", "replace")))


def shared_out(numbers: range, work: Callable[[range], list[tuple[int, str]]]) -> Counter[str]:
    """By several senders; fails with what any of them found wrong: (number, what)."""
    with ThreadPoolExecutor(SENDERS) as pool:
        parts = pool.map(work, [numbers[i::SENDERS] for i in range(SENDERS)])
        outcomes = [outcome for part in parts for outcome in part]
    bad = [outcome for outcome in outcomes if outcome[1].startswith("wrong")]
    assert bad == [], f"seed {mutations.SEED}, (number, what): {bad[:5]}"
    return Counter(what for _, what in outcomes)


def test_changed_bodies_types_and_queries_are_answered_one_and_all_and_nothing_is_kept(target):
    posts = mutations.valid()

    def send(numbers: range) -> list[tuple[int, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=START_S)
        outcomes = []
        for number in numbers:
            post = mutations.mutant(number, posts)
            connection.putrequest("POST", post.path, skip_accept_encoding=True)
            connection.putheader("Content-Type", post.media_type.encode("latin-1"))
            connection.putheader("Content-Length", str(len(post.body)))
            connection.endheaders(post.body)
            response = connection.getresponse()
            answer = response.read()
            bad = wrong(response.status, answer)
            outcomes.append((number, f"wrong: {response.status} {answer!r} to {post}" if bad else str(response.status)))
        connection.close()
        return outcomes

    shared_out(range(BODIES // 3), send)
    before = target.memory
    statuses = shared_out(range(BODIES // 3, BODIES), send)
    assert {"200", "400", "404", "413", "415", "422"} <= set(statuses), "the changes reach every check"
    grown = target.memory - before
    assert grown < 24 * MIB, f"4 kB of each request kept would be {grown / MIB:.0f} MiB"
    assert "Traceback" not in target.log.read_text()


def test_changed_bytes_of_whole_requests_are_answered_or_waited_for(target):
    posts = mutations.valid()

    def send(numbers: range) -> list[tuple[int, str]]:
        outcomes = []
        for number in numbers:
            data = mutations.raw_mutant(number, posts)
            answer = first_answer(target.port, data)
            status = answer.split(b" ", 2)[1:2]
            bad = bool(status) and wrong(int(status[0]), answer)
            what = f"wrong: {answer!r} to {data!r}" if bad else b"".join(status).decode()
            outcomes.append((number, what))
        return outcomes

    statuses = shared_out(range(RAW), send)
    assert {"200", "400"} <= set(statuses)
    assert target.get("/livez").status_code == 200
    assert "Traceback" not in target.log.read_text()


def first_answer(port: int, data: bytes) -> bytes:
    """Until the service ends the connection; what has no end of its head is given half a second."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=START_S) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        connection.settimeout(0.5)
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                received += part
    return received
