"""A download that is killed goes on with the byte after the last that reached the disk."""

import hashlib
import multiprocessing
import random
import resource
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx  # noqa: F401 - here once, or each process that is forked below would import it
import pytest

from data.download import Patience, download
from data.errors import DownloadError

KILLS = 50
CONTENT = random.Random(0).randbytes(8_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ONCE = Patience(attempts=1)
FORK = multiprocessing.get_context("fork")
Answer = Callable[[BaseHTTPRequestHandler], None]


def sending(upto: int, more: threading.Event | None = None, done: threading.Event | None = None) -> Answer:
    """The bytes asked for as far as byte `upto`, in pieces of all sizes; the rest when there may be `more`."""

    def send(request: BaseHTTPRequestHandler, start: int, end: int) -> None:
        sizes = random.Random(start)
        while start < end:
            piece = CONTENT[start : min(start + sizes.randint(1, 20_000), end)]
            request.wfile.write(piece)
            start += len(piece)

    def answer(request: BaseHTTPRequestHandler) -> None:
        start = start_of(request.headers.get("Range"))
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.send_header("Content-Length", str(len(CONTENT) - start))
        request.send_header("ETag", '"1"')
        request.end_headers()
        try:
            send(request, start, upto)
            if more is None or more.wait(60):
                send(request, max(start, upto), len(CONTENT))
        except OSError:  # the reader was killed
            pass
        finally:
            if done is not None:
                done.set()

    return answer


def start_of(asked: str | None) -> int:
    """Of `bytes=100-`; 0 where all is asked for."""
    return int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "waited for a minute in vain"
        time.sleep(0.0002)


@pytest.mark.slow
def test_killed_fifty_times_no_byte_that_reached_the_disk_is_asked_for_again(web, tmp_path):
    """Half of the kills come while bytes stream in, half when all that was sent is there, to the last byte."""
    target, part, chance, sizes = tmp_path / "a.zip", tmp_path / "a.zip.part", random.Random(1), [0]
    for kill in range(KILLS):
        reach = sizes[-1] + chance.randint(1, 100_000)
        killed, done = threading.Event(), threading.Event()
        web.answers = [sending(reach + 50_000 * (kill % 2), killed, done)]
        reader = FORK.Process(target=download, args=(web.url(), target), kwargs={"patience": ONCE})
        reader.start()
        until(lambda reach=reach: size(part) >= reach)
        reader.kill()
        reader.join()
        killed.set()
        assert done.wait(60)  # before the next fork: it must find no thread in the middle of anything
        assert not target.exists()
        sizes.append(size(part))
    web.answers = [sending(len(CONTENT))]
    assert download(web.url(), target, sha256=SHA256, patience=ONCE).read_bytes() == CONTENT
    assert [start_of(request.get("range")) for request in web.requests] == sizes
    assert sizes == sorted(set(sizes))


def test_what_came_is_on_disk_while_the_rest_is_awaited(web, tmp_path):
    more = threading.Event()
    web.answers = [sending(1_001, more)]
    reader = threading.Thread(target=download, args=(web.url(), tmp_path / "a.zip"), daemon=True)
    reader.start()
    until(lambda: size(tmp_path / "a.zip.part") == 1_001)
    more.set()
    reader.join(60)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.slow
def test_what_a_full_disk_still_took_is_not_asked_for_again(web, tmp_path):
    """A file may grow to 50,001 bytes: one write takes less than it is given, and the next one nothing."""

    def with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_001, 50_001))
        with pytest.raises(DownloadError, match="cannot be written: File too large; make room"):
            download(web.url(), tmp_path / "a.zip", patience=ONCE)

    web.answers = [sending(len(CONTENT))]
    reader = FORK.Process(target=with_little_room)
    reader.start()
    reader.join(60)
    assert reader.exitcode == 0
    assert size(tmp_path / "a.zip.part") == 50_001
    download(web.url(), tmp_path / "a.zip", sha256=SHA256, patience=ONCE)
    assert web.requests[-1]["range"] == "bytes=50001-"
