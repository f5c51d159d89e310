"""Senders that never end, never begin, or send little that becomes much: a bounded answer, and nothing kept."""

import contextlib
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import toy
from conftest import LEAKS, START_S, Running, serving

pytestmark = pytest.mark.slow  # a service of its own, which waits for what never comes

BRIGHT = toy.picture(200)
LARGE = toy.picture(200, size=(200, 200), format="BMP")  # 120 kB
MIB = 1024 * 1024
POST = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Iterator[Running]:
    """A service that gives a request a second to arrive."""
    with serving(tmp_path_factory.mktemp("impatient"), toy_bundle, upload_timeout_s="1") as service:
        yield service


@pytest.fixture(autouse=True)
def _goes_on(impatient):
    yield
    assert ask(impatient).json()["label"] == "bright"
    assert "Traceback" not in impatient.log.read_text()


def ask(service: Running, file: bytes = BRIGHT) -> httpx.Response:
    return httpx.post(f"{service.url}/predict", files={"image": file}, timeout=START_S)


@contextlib.contextmanager
def never_holding_more(service: Running, than: int) -> Iterator[None]:
    """So many bytes more than before, not for a moment."""
    (worker,) = psutil.Process(service.process.pid).children()
    before = service.memory
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")  # the peak begins anew: man 5 proc
    yield
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker.pid}/status").read_text())
    assert peak is not None
    assert 1024 * int(peak[1]) - before < than


def connected(service: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=START_S)


def received(connection: socket.socket) -> bytes:
    """All that the service sends, until it ends the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):  # what we sent and it did not read
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_body_without_end_is_answered_ended_and_not_kept(impatient):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with never_holding_more(impatient, 100 * MIB), connected(impatient) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError, match=r"(?i)reset|broken pipe"):  # noqa: PT012 - it ends it while we send
            while True:
                connection.sendall(chunk)


def test_a_chunked_body_over_the_limit_is_told_so_before_its_end(impatient):
    with connected(impatient) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(161):  # of 64 kB; the limit is at 160
            connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert received(connection).startswith(b"HTTP/1.1 413")


def test_fifty_slow_senders_get_408_and_keep_nobody_waiting(impatient):
    connections = [connected(impatient) for _ in range(50)]
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.1):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")

    for connection in connections:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n")
    thread = threading.Thread(target=trickle)
    thread.start()
    assert ask(impatient).json()["label"] == "bright"
    for connection in connections:
        with connection:
            assert received(connection).startswith(b"HTTP/1.1 408")
    over.set()
    thread.join()


def test_headers_without_end_are_refused(impatient):
    with connected(impatient) as connection:
        connection.sendall(POST)
        with contextlib.suppress(OSError):
            for number in range(2000):
                connection.sendall(f"X-{number}: {'a' * 200}\r\n".encode())
        assert b"HTTP/1.1 400" in received(connection)


def test_one_header_without_end_is_refused(impatient):
    with connected(impatient) as connection:
        connection.sendall(POST + b"X-Long: ")
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"a" * 10_000)
        assert received(connection).startswith(b"HTTP/1.1 400")


def test_trailers_without_end_are_refused(impatient):
    with connected(impatient) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Long: ")
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"a" * 10_000)
        assert received(connection).startswith(b"HTTP/1.1 400")


def test_a_body_in_chunks_is_taken_whatever_their_size(impatient):
    chunks = [BRIGHT[i : i + 3] for i in range(0, len(BRIGHT), 3)]
    body = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in [*chunks])
    with connected(impatient) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body)
        connection.sendall(b"0\r\nX-Checked: yes\r\n\r\n")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"label":"bright"' in answer


def test_chunks_longer_than_headers_may_be_are_taken_wherever_they_are_cut(impatient):
    """What is read at once may end after a chunk's size, where nothing tells yet that a body follows."""
    size = b"8000\r\n"  # 32 kB
    chunks = [LARGE[start : start + 0x8000] for start in range(0, 3 * 0x8000, 0x8000)]
    with connected(impatient) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + size)
        for chunk in chunks:
            time.sleep(0.05)  # so that it is read by itself
            connection.sendall(chunk + b"\r\n" + size)
        rest = LARGE[3 * 0x8000 :].ljust(0x8000, b"\0")
        connection.sendall(rest + b"\r\n0\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 200")


def test_a_header_that_follows_the_body_is_none(impatient):
    """Whoever checks keys before us has not seen it. RFC 9110, 6.5.1"""
    with connected(impatient) as connection:
        connection.sendall(
            POST
            + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            + f"{len(BRIGHT):x}\r\n".encode()
            + BRIGHT
            + b"\r\n0\r\nX-Request-Id: from-behind\r\n\r\n"
        )
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"from-behind" not in answer


@pytest.mark.parametrize("file", [BRIGHT, LARGE], ids=["small", "large"])
def test_requests_sent_without_waiting_are_answered_in_order(impatient, file):
    length = f"Content-Length: {len(file)}\r\n".encode()
    with connected(impatient) as connection:
        connection.sendall(3 * (POST + length + b"\r\n" + file) + POST + length + b"Connection: close\r\n\r\n" + file)
        statuses = [part[:3] for part in received(connection).split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * 4


def test_a_request_is_answered_whatever_follows_it(impatient):
    with connected(impatient) as connection:
        connection.sendall(
            POST
            + f"Content-Length: {len(BRIGHT)}\r\n\r\n".encode()
            + BRIGHT
            + POST
            + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\nno number\r\n"
        )
        statuses = [part[:3] for part in received(connection).split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"]


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_who_would_rather_speak_another_protocol_is_answered_in_this_one(impatient, protocol):
    """Java's client offers HTTP/2 with the first request on every connection, body and all."""
    upgrade = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAEAAEAAAAI\r\n"
    length = f"Content-Length: {len(BRIGHT)}\r\n\r\n"
    with connected(impatient) as connection:
        connection.sendall(POST + upgrade.encode() + length.encode() + BRIGHT[:50])
        connection.sendall(BRIGHT[50:])
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"label":"bright"' in answer
    assert b"connection: close" in answer.lower()  # whoever has more to say begins anew


@pytest.mark.parametrize(
    ("host", "answer"), [("", b"400"), ("Host: a\r\n", b"200"), ("Host: a\r\nHost: b\r\n", b"400")]
)
def test_a_request_names_one_host(impatient, host, answer):
    with connected(impatient) as connection:
        connection.sendall(f"GET /livez HTTP/1.1\r\n{host}Connection: close\r\n\r\n".encode())
        assert received(connection).startswith(b"HTTP/1.1 " + answer)


def test_the_service_is_no_tunnel(impatient):
    with connected(impatient) as connection:
        connection.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 400")


def test_a_body_longer_than_its_length_is_not_taken_for_the_next_request(impatient):
    with connected(impatient) as connection:
        length = f"Content-Length: {len(BRIGHT)}\r\n\r\n".encode()
        connection.sendall(POST + length + BRIGHT + b"and more that was not announced\r\n\r\n")
        answers = received(connection).split(b"HTTP/1.1 ")[1:]
        assert [answer[:3] for answer in answers] == [b"200"]
        assert b"connection: close" in answers[0].lower()


def test_chunks_that_are_none_are_refused_at_once(impatient):
    with connected(impatient) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\nno number\r\n")
        assert received(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"0x10", b"10, 11", b"10\r\nContent-Length: 11"])
def test_a_length_that_is_none_is_refused(impatient, length):
    with connected(impatient) as connection:
        connection.sendall(POST + b"Content-Length: " + length + b"\r\n\r\n" + b"x" * 16)
        assert received(connection).startswith(b"HTTP/1.1 400")


def test_two_lengths_of_one_body_are_refused(impatient):
    """Two servers that choose differently would see different requests."""
    with connected(impatient) as connection:
        connection.sendall(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /model")
        answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 4")
        assert answer.count(b"HTTP/1.1") == 1


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0\0\0\0"


def claimed(format: str, offset: int, claim: bytes) -> bytes:
    """A small picture that says another size."""
    file = bytearray(toy.picture(200, format=format))
    file[offset : offset + len(claim)] = claim
    return bytes(file)


def jpeg(side: int) -> bytes:
    file = toy.picture(200, format="JPEG")
    at = file.index(b"\xff\xc0") + 5
    return file[:at] + struct.pack(">HH", side, side) + file[at + 4 :]


ZEROS = zlib.compress(bytes(200 * MIB))
PIXELS = zlib.compress((b"\0" + b"\xc8" * 12) * 4)
BOMBS = {
    "png 2**31": (png(2**31 - 1, 2**31 - 1), {400, 413}),
    "png profile": (png(4, 4, (b"iCCP", b"a\0\0" + ZEROS), (b"IDAT", PIXELS)), {200, 400}),
    "png text": (png(4, 4, (b"zTXt", b"a\0\0" + ZEROS), (b"IDAT", PIXELS)), {200, 400}),
    "png pixels": (png(4, 4, (b"IDAT", ZEROS)), {200, 400}),
    "jpeg": (jpeg(65_500), {413}),
    "gif": (claimed("GIF", 6, b"\xff\xff\xff\xff"), {413}),
    "bmp": (claimed("BMP", 18, struct.pack("<ii", 2**31 - 1, 2**31 - 1)), {400, 413}),
    "tiff 2**31": (tiff(2**31, 2**31), {413}),
    "tiff 2**32": (tiff(2**32 - 1, 1), {413}),
    "webp": (b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + b"\0" * 8, {400, 413}),
    "zip": (b"PK\x03\x04" + ZEROS[:10_000], {400}),
    "gzip": (b"\x1f\x8b\x08" + ZEROS[:10_000], {400}),
}


@pytest.mark.parametrize(("file", "statuses"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_or_read_without_what_it_would_become(impatient, file, statuses):
    with never_holding_more(impatient, 100 * MIB):
        answer = ask(impatient, file)
    assert answer.status_code in statuses, answer.text
    assert not LEAKS.search(answer.text)


def test_a_form_inside_a_form_of_many_parts_is_refused(impatient):
    body = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n' * 100_000 + b"--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{impatient.url}/predict", content=body, headers=headers, timeout=START_S)
    assert answer.status_code in (400, 422)


def test_uploads_that_are_refused_leave_no_memory(impatient):
    def flood(times: int) -> None:
        for _ in range(times):
            body = bytes(11 * MIB)
            assert httpx.post(f"{impatient.url}/predict", content=body, timeout=START_S).status_code in (413, 415)

    flood(10)
    before = impatient.memory
    flood(30)
    assert impatient.memory - before < 60 * MIB, "one in five of them kept would be more"
