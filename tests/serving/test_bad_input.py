"""What a stranger gets who sends something else: one sentence, the stated status, and a service that goes on."""

import io
import socket
import struct
import zlib

import httpx
import pytest
import toy
from conftest import LEAKS, START_S
from PIL import Image

BRIGHT = toy.picture(200)


def refused(response: httpx.Response, status: int) -> str:
    """The sentence of an answer that refuses as promised."""
    assert response.status_code == status, response.text
    answer = response.json()
    assert set(answer) == {"error", "request_id"}
    assert answer["request_id"] == response.headers["X-Request-Id"]
    assert "\n" not in answer["error"]
    assert not LEAKS.search(answer["error"])
    return str(answer["error"])


@pytest.fixture(autouse=True)
def _goes_on(client):
    yield
    assert client.post("/predict", files={"image": BRIGHT}).json()["label"] == "bright"


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "file",
    [
        b"this is a text file",
        BRIGHT[:60],
        toy.picture(100, format="JPEG")[:300],
        b"\x00" * 100,
        b"%PDF-1.4",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a",
    ],
    ids=["text", "truncated png", "truncated jpeg", "zeros", "pdf", "svg", "gif header"],
)
def test_what_is_no_picture_gets_400(client, file):
    refused(client.post("/predict", files={"image": ("rose.jpg", file, "image/jpeg")}), 400)
    refused(client.post("/predict", content=file, headers={"Content-Type": "image/jpeg"}), 400)


def test_an_empty_picture_gets_400(client):
    assert "empty" in refused(client.post("/predict", files={"image": ("a.png", b"", "image/png")}), 400)
    assert "empty" in refused(client.post("/predict", content=b"", headers={"Content-Type": "image/png"}), 400)


def test_one_bad_picture_in_a_batch_is_named(client):
    files = [("images", BRIGHT), ("images", b"text"), ("images", BRIGHT)]
    assert "picture 2 of 3" in refused(client.post("/predict_batch", files=files), 400)


def test_an_upload_over_the_limit_gets_413(client):
    sentence = refused(client.post("/predict", files={"image": b"x" * 11_000_000}), 413)
    assert "10,485,760" in sentence


@pytest.mark.slow
def test_an_upload_of_100_megabytes_gets_413_and_no_reset(client):
    sent = 100 * 1024 * 1024
    refused(client.post("/predict", files={"image": b"\0" * sent}), 413)


def test_an_upload_over_the_limit_without_a_length_gets_413(client):
    chunks = (b"x" * 65536 for _ in range(400))
    refused(client.post("/predict", content=chunks, headers={"Content-Type": "image/png"}), 413)


def test_a_chunked_picture_without_a_length_is_classified(client):
    chunks = iter([BRIGHT[:30], BRIGHT[30:]])
    response = client.post("/predict", content=chunks, headers={"Content-Type": "image/png"})
    assert response.json()["label"] == "bright"


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (12_000, 12_000)])
def test_a_decompression_bomb_gets_413_by_its_header(client, size):
    """Whoever began to decode it would find nothing there, and answer 400."""
    refused(client.post("/predict", files={"image": png_header(*size)}), 413)


@pytest.mark.slow
def test_a_real_png_of_many_pixels_in_few_bytes_gets_413(client):
    stream = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(stream, format="PNG")
    assert len(stream.getvalue()) < 50_000
    refused(client.post("/predict", files={"image": stream.getvalue()}), 413)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "video/mp4", "nonsense"])
def test_another_content_type_gets_415(client, content_type):
    sentence = refused(client.post("/predict", content=BRIGHT, headers={"Content-Type": content_type}), 415)
    assert "image/*" in sentence


def test_no_content_type_gets_415(client):
    refused(client.post("/predict", content=BRIGHT), 415)


def test_a_field_that_says_it_is_text_gets_415(client):
    refused(client.post("/predict", files={"image": ("a.txt", b"hello", "text/plain")}), 415)


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"picture": BRIGHT}},
        {"files": [("image", BRIGHT), ("image", BRIGHT)]},
        {"files": {"image": BRIGHT}, "data": {"extra": "1"}},
        {"json": {}},
        {"json": {"image": 3}},
        {"json": {"image": "not base64!"}},
        {"json": {"picture": "aGFsbG8="}},
        {"json": ["image"]},
        {"json": {"image": "aGFsbG8=", "extra": 1}},
    ],
)
def test_wrong_fields_get_422(client, form):
    refused(client.post("/predict", **form), 422)


def test_a_batch_with_another_field_or_too_many_pictures_gets_422(client):
    refused(client.post("/predict_batch", files={"image": BRIGHT}), 422)
    refused(client.post("/predict_batch", files=[("images", BRIGHT)] * 9), 422)


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff\xfe", b"", b'{"image": "' + b"A" * 100])
def test_broken_json_gets_400(client, body):
    refused(client.post("/predict", content=body, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary at all"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition"),
        ("multipart/form-data; boundary=" + "y" * 400, b"--y--"),
        ("multipart/form-data; boundary=x", b""),
    ],
    ids=["no boundary", "boundary not found", "truncated", "truncated header", "long boundary", "empty"],
)
def test_a_broken_form_gets_400(client, content_type, body):
    refused(client.post("/predict", content=body, headers={"Content-Type": content_type}), 400)


def test_an_unknown_path_gets_404_and_another_method_405(client):
    refused(client.get("/nothing"), 404)
    for number in ("99", "-1", "1.5", "9" * 5000):
        refused(client.get(f"/samples/{number}"), 404)
    refused(client.get("/../../etc/passwd"), 404)
    response = client.get("/predict")
    refused(response, 405)
    assert response.headers["Allow"] == "POST"


def raw(port: int, data: bytes) -> bytes:
    """What the service sends back to these bytes, until it ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=START_S) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_a_sender_that_leaves_in_the_middle_disturbs_nobody(service, client):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nabc"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", service.port), timeout=START_S) as connection:
            connection.sendall(head)
    assert client.get("/livez").status_code == 200


def test_a_nonsense_length_is_refused(service):
    for length in (b"-1", b"1e9", b"9" * 5000):
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: " + length
        assert raw(service.port, head + b"\r\n\r\n").split(b" ")[1].startswith(b"4")


def test_the_answer_to_a_body_that_is_too_large_comes_before_the_body_and_the_connection_ends_without_it(service):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 104857600\r\n\r\n"
    assert raw(service.port, head).startswith(b"HTTP/1.1 413")
