"""Pictures in folders, and a web server that misbehaves as told."""

import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def png(seed: int, side: int = 6) -> bytes:
    """A small grey picture; another seed, other pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def two_classes(folder: Path, num: int, *, side: int) -> None:
    """a/0.png, b/1.png, a/2.png, ..."""
    for number in range(num):
        file = folder / f"{'ab'[number % 2]}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number, side=side))


@pytest.fixture(name="png")
def png_fixture() -> Callable[..., bytes]:
    return png


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write({"a/1.png": content | None}) -> folder; None stands for a picture of its own."""

    def write_files(files: dict[str, bytes | None], folder: str = "pictures") -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for number, (name, content) in enumerate(files.items()):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number) if content is None else content)
        return root

    return write_files


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class Web(ThreadingHTTPServer):
    """Answers GET from `answers`, in turn; the last one stays. Keeps the headers of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.requests: list[dict[str, str]] = []

    def url(self, path: str = "flowers.zip") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of these tests."""


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.requests.append({name.lower(): value for name, value in self.headers.items()})
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def web() -> Iterator[Web]:
    yield from serving()


@pytest.fixture
def other_web() -> Iterator[Web]:
    """Another server, which is to say another port."""
    yield from serving()


def serving() -> Iterator[Web]:
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
