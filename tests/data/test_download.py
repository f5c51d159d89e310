"""A download ends whole and verified, or with one sentence and nothing at its place."""

import hashlib
import multiprocessing
import random
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path

import pytest

from data.download import Patience, download
from data.errors import DownloadError

CONTENT = random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)
Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(content: bytes = CONTENT, *, etag: str | None = '"1"', breaks_after: int | None = None) -> Answer:
    """A server without ranges; it may hang up early."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        if etag:
            request.send_header("ETag", etag)
        request.end_headers()
        request.wfile.write(content[:breaks_after])

    return answer


def ranges(content: bytes = CONTENT, *, etag: str = '"1"', breaks_after: int | None = None) -> Answer:
    """A server that continues where it is asked to, if the file is still the same one."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        if not asked or request.headers.get("If-Range") != etag:
            whole(content, etag=etag, breaks_after=breaks_after)(request)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.send_header("ETag", etag)
        request.end_headers()
        request.wfile.write(content[start:][:breaks_after])

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_comes_whole(web, tmp_path):
    web.answers = [whole()]
    steps: list[tuple[int, int]] = []
    target = download(
        web.url(), tmp_path / "a.zip", sha256=SHA256, progress=lambda _, done, total: steps.append((done, total))
    )
    assert target.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert leftovers(tmp_path) == ["a.zip", "a.zip.origin.json"]


@pytest.mark.parametrize("seed", range(5))
def test_a_connection_that_breaks_at_random_bytes_is_taken_up_there(web, tmp_path, seed):
    cuts = random.Random(seed)
    web.answers = [ranges(breaks_after=cuts.randrange(1, 60_000)) for _ in range(4)] + [ranges()]
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == CONTENT
    starts = [int(request["range"].removeprefix("bytes=").rstrip("-")) for request in web.requests[1:]]
    assert len(starts) == 4
    assert starts == sorted(set(starts))


def test_a_later_run_takes_up_what_an_earlier_one_left(web, tmp_path):
    web.answers = [ranges(breaks_after=50_000), status(503)]
    with pytest.raises(DownloadError, match="after 3 attempts"):
        download(web.url(), tmp_path / "a.zip", patience=QUICK)
    assert not (tmp_path / "a.zip").exists()
    web.answers = [ranges()]
    download(web.url(), tmp_path / "a.zip", sha256=SHA256, patience=QUICK)
    assert web.requests[-1]["range"] == "bytes=50000-"
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_what_was_whole_when_the_run_was_killed_is_not_fetched_again(web, tmp_path):
    web.answers = [ranges(breaks_after=len(CONTENT) - 1), status(503)]
    with pytest.raises(DownloadError):
        download(web.url(), tmp_path / "a.zip", patience=QUICK)
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    web.answers = [status(416, Content_Range=f"bytes */{len(CONTENT)}")]
    web.requests.clear()
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == CONTENT
    assert len(web.requests) == 1


def test_a_part_longer_than_the_file_is_thrown_away(web, tmp_path):
    web.answers = [ranges(breaks_after=50_000), status(503)]
    with pytest.raises(DownloadError):
        download(web.url(), tmp_path / "a.zip", patience=QUICK)
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    web.answers = [status(416, Content_Range=f"bytes */{len(CONTENT)}"), ranges()]
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == CONTENT


def test_a_server_without_ranges_begins_again(web, tmp_path):
    web.answers = [whole(breaks_after=50_000), whole(breaks_after=90_000), whole()]
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == CONTENT


def test_a_file_that_changed_in_between_is_not_mixed_with_the_old_one(web, tmp_path):
    newer = CONTENT[::-1]
    web.answers = [ranges(breaks_after=50_000), ranges(newer, etag='"2"')]
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == newer


def test_without_anything_that_names_the_version_nothing_is_resumed(web, tmp_path):
    web.answers = [whole(etag=None, breaks_after=50_000), whole(etag=None)]
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == CONTENT
    assert "range" not in web.requests[1]


def test_another_range_than_the_one_asked_for_is_not_taken(web, tmp_path):
    def wrong(request: BaseHTTPRequestHandler) -> None:
        request.send_response(206)
        request.send_header("Content-Range", f"bytes 0-149999/{len(CONTENT)}")
        request.send_header("Content-Length", "150000")
        request.end_headers()
        request.wfile.write(CONTENT[:150_000])

    web.answers = [ranges(breaks_after=50_000), wrong, ranges()]
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == CONTENT


def test_a_server_that_hands_out_small_ranges_is_asked_until_all_is_there(web, tmp_path):
    def small(request: BaseHTTPRequestHandler) -> None:
        start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
        piece = CONTENT[start : start + 60_000]
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{start + len(piece) - 1}/{len(CONTENT)}")
        request.send_header("Content-Length", str(len(piece)))
        request.end_headers()
        request.wfile.write(piece)

    web.answers = [ranges(breaks_after=50_000), small]
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == CONTENT


def test_a_wrong_sha256_is_refused_and_nothing_stays(web, tmp_path):
    web.answers = [whole()]
    with pytest.raises(DownloadError, match=f"has sha256 {SHA256[:12]}..., expected 000000000000"):
        download(web.url(), tmp_path / "a.zip", sha256="0" * 64, patience=QUICK)
    assert not (tmp_path / "a.zip").exists()
    assert not (tmp_path / "a.zip.part").exists()


def test_bytes_that_rotted_between_two_runs_are_fetched_again(web, tmp_path):
    web.answers = [ranges(breaks_after=50_000), status(503)]
    with pytest.raises(DownloadError):
        download(web.url(), tmp_path / "a.zip", patience=QUICK)
    (tmp_path / "a.zip.part").write_bytes(bytes(50_000))
    web.answers = [ranges()]
    assert download(web.url(), tmp_path / "a.zip", sha256=SHA256, patience=QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("code", [400, 404, 410])
def test_what_is_not_there_is_said_at_once(web, tmp_path, code):
    web.answers = [status(code)]
    with pytest.raises(DownloadError, match=f"answers with status {code} .*check the address"):
        download(web.url(), tmp_path / "a.zip", patience=QUICK)
    assert len(web.requests) == 1
    assert leftovers(tmp_path) == []


def test_a_busy_server_is_asked_again_as_it_says(web, tmp_path):
    web.answers = [status(503), status(429, Retry_After="0"), whole()]
    assert download(web.url(), tmp_path / "a.zip", patience=QUICK).read_bytes() == CONTENT


def test_attempts_are_bounded(web, tmp_path):
    web.answers = [status(500)]
    with pytest.raises(
        DownloadError, match=r"after 3 attempts \(status 500\); check the network .* or put the file at"
    ):
        download(web.url(), tmp_path / "a.zip", patience=QUICK)
    assert len(web.requests) == QUICK.attempts


def test_no_network_is_one_sentence_that_says_where_to_put_the_file(tmp_path):
    with pytest.raises(DownloadError, match=str(tmp_path / "a.zip")):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", patience=QUICK)


def test_silence_times_out(web, tmp_path):
    def silent(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        time.sleep(1)

    web.answers = [silent]
    with pytest.raises(DownloadError, match="after 1 attempts"):
        download(web.url(), tmp_path / "a.zip", patience=Patience(attempts=1, silence_s=0.1))


def test_dripping_bytes_time_out(web, tmp_path, monkeypatch):
    """A minute passes from one look at the clock to the next, and there is one for each piece that came."""
    minutes = count()
    monkeypatch.setattr(time, "monotonic", lambda: 60.0 * next(minutes))
    web.answers = [whole(breaks_after=100)]
    with pytest.raises(DownloadError, match=r"only 100 bytes in 60 s"):
        download(web.url(), tmp_path / "a.zip", patience=Patience(attempts=1))


def test_a_file_with_the_right_sha256_is_not_fetched_again(web, tmp_path):
    (tmp_path / "a.zip").write_bytes(CONTENT)
    web.answers = [whole()]
    download(web.url(), tmp_path / "a.zip", sha256=SHA256)
    assert web.requests == []


def test_a_file_put_there_by_hand_is_used(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"by hand")
    assert download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", patience=QUICK).read_bytes() == b"by hand"


def test_an_unchanged_file_is_asked_for_and_not_sent_again(web, tmp_path):
    web.answers = [whole(), status(304)]
    download(web.url(), tmp_path / "a.zip")
    download(web.url(), tmp_path / "a.zip")
    assert web.requests[1]["if-none-match"] == '"1"'
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_changed_file_replaces_the_old_one(web, tmp_path):
    web.answers = [whole(), whole(b"newer", etag='"2"')]
    download(web.url(), tmp_path / "a.zip")
    assert download(web.url(), tmp_path / "a.zip").read_bytes() == b"newer"


def test_an_earlier_copy_serves_while_the_server_is_away(web, tmp_path):
    web.answers = [whole()]
    url = web.url()
    download(url, tmp_path / "a.zip")
    web.shutdown()
    web.server_close()
    said: list[str] = []
    download(url, tmp_path / "a.zip", patience=QUICK, progress=lambda what, *_: said.append(what))
    assert "earlier run" in said[-1]


def test_a_copy_from_another_address_does_not_serve_while_the_server_is_away(web, tmp_path):
    web.answers = [whole()]
    download(web.url(), tmp_path / "a.zip")
    with pytest.raises(DownloadError, match="could not be downloaded after"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", patience=QUICK)


def test_a_redirect_is_followed(web, tmp_path):
    web.answers = [status(302, Location=web.url("other.zip")), whole()]
    assert download(web.url(), tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_compressed_archive_is_stored_as_it_comes(web, tmp_path):
    def labelled_gzip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT)

    web.answers = [labelled_gzip]
    assert download(web.url("a.tar.gz"), tmp_path / "a.tar.gz", sha256=SHA256).read_bytes() == CONTENT


def test_a_header_goes_to_its_server_and_not_where_that_one_sends_us_on_to(web, other_web, tmp_path):
    secret = {"Private-Token": "swordfish", "Authorization": "Basic x"}
    web.answers = [status(302, Location=other_web.url("b.zip"))]
    other_web.answers = [whole()]
    assert download(web.url(), tmp_path / "a.zip", headers=secret).read_bytes() == CONTENT
    assert web.requests[0]["private-token"] == "swordfish"
    assert web.requests[0]["authorization"] == "Basic x"
    assert not {"private-token", "authorization"} & other_web.requests[0].keys()
    assert "swordfish" not in "".join(path.read_text() for path in tmp_path.glob("*.json"))


def test_a_header_stays_when_the_same_server_sends_us_on(web, tmp_path):
    web.answers = [status(302, Location="/b.zip"), whole()]
    download(web.url(), tmp_path / "a.zip", headers={"Private-Token": "swordfish"})
    assert [request["private-token"] for request in web.requests] == ["swordfish", "swordfish"]


def test_a_server_that_wants_to_know_who_asks_is_one_sentence_with_the_ways_to_tell(web, tmp_path):
    web.answers = [status(401)]
    with pytest.raises(DownloadError, match=r"status 401 .*; give what it wants to see in ~/.netrc or TRAINSERVE_"):
        download(web.url(), tmp_path / "a.zip", patience=QUICK)


def _fetch(url: str, target: Path) -> None:
    download(url, target, sha256=SHA256, patience=QUICK)


@pytest.mark.slow
def test_two_processes_that_want_the_same_file_share_one_download(web, tmp_path):
    web.answers = [ranges(breaks_after=70_000), ranges()]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fetch, args=(web.url(), tmp_path / "a.zip")) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert len(web.requests) == 2
