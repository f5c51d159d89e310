"""A listing at https://: its pictures lie beside or below it, and only those that changed come again."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from itertools import count
from pathlib import Path

import pytest

from data import catalog, download
from data.download import Patience
from data.errors import DownloadError, SourceError
from data.prepare import prepare
from data.sources import mirror, remote, web
from data.sources.web import pictures
from data.spec import DatasetSpec
from tests.data.test_bucket import files

Answer = Callable[[BaseHTTPRequestHandler], None]


def site(content: dict[str, bytes], *, secret: str | None = None, short: set[str] | None = None) -> Answer:
    """A server with these files; ETags are their sizes. Each of `short` breaks once in the middle."""
    breaks = set(short or ())

    def answer(request: BaseHTTPRequestHandler) -> None:
        file, etag = content.get(request.path), f'"{len(content.get(request.path, b""))}"'
        if secret and request.headers.get("Authorization") != secret:
            status, file = 403, b""
        elif file is None:
            status, file = 404, b"<html>not found</html>"
        elif request.headers.get("If-None-Match") == etag:
            status, file = 304, b""
        else:
            status = 200
        request.send_response(status)
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(file)))
        request.end_headers()
        cut = request.path in breaks and status == 200
        breaks.discard(request.path)
        request.wfile.write(file[: len(file) // 2] if cut else file)

    return answer


def listing(names: list[str]) -> bytes:
    return ("path,label\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names))).encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    patience = web.Patience(attempts=3, first_wait_s=0.001)
    monkeypatch.setattr(web, "Patience", lambda: patience)


@pytest.mark.slow
def test_pictures_come_from_beside_the_listing(web, home, png):
    names = [f"shots/{i} ü#%.png" for i in range(40)]
    paths = {f"/garden/shots/{i}%20%C3%BC%23%25.png": png(i) for i in range(40)}
    web.answers = [site(paths | {"/garden/my%20labels.csv?v=2": listing(names)}, short={*list(paths)[:7]})]
    found = prepare(DatasetSpec(source=web.url("garden/my%20labels.csv?v=2"), size=8), home)
    assert found.report.name == "my-labels"
    assert {one.label: one.train + one.val + one.test for one in found.report.classes} == {"a": 20, "b": 20}


@pytest.mark.slow
def test_only_what_changed_comes_again_and_what_is_not_there_is_missing(web, home):
    content = {"/l.csv": listing(["1.png", "2.png", "3.png"]), "/1.png": b"one", "/2.png": b"two!"}
    web.answers = [site(content)]
    spec = DatasetSpec(source=web.url("l.csv"))
    root = catalog.fetch(spec, home).root
    assert files(root).keys() == {"1.png", "2.png", "l.csv", "l.csv.origin.json"}
    before = (root / "1.png").stat()
    content["/2.png"] = b"another"
    assert files(catalog.fetch(spec, home).root)["2.png"] == b"another"
    assert (root / "1.png").stat() == before
    del content["/1.png"]
    assert "1.png" not in files(catalog.fetch(spec, home).root)


def test_without_the_server_the_copy_of_an_earlier_run_is_used_if_it_is_whole(web, home, monkeypatch):
    monkeypatch.setattr(download, "Patience", lambda: Patience(attempts=2, first_wait_s=0.001))
    spec, root = fetched_then_away(web, home, sha256=None)
    (root / mirror.LOG).unlink()
    with pytest.raises(DownloadError, match="check the network and run again"):
        catalog.fetch(spec, home)


def test_without_the_server_a_listing_that_is_known_by_its_digest_needs_nothing_either(web, home):
    spec, root = fetched_then_away(web, home, sha256=hashlib.sha256(listing(["1.png", "2.png"])).hexdigest())
    (root / "2.png").unlink()
    (root / mirror.LOG).unlink()
    with pytest.raises(DownloadError, match=r"could not be downloaded after 3 attempts .* check the network and run"):
        catalog.fetch(spec, home)


def fetched_then_away(web, home, *, sha256: str | None) -> tuple[DatasetSpec, Path]:
    """What was asked for and where it lies, once the copy has served twice in place of a server that is gone."""
    web.answers = [site({"/l.csv": listing(["1.png", "2.png"]), "/1.png": b"one", "/2.png": b"two!"})]
    spec = DatasetSpec(source=web.url("l.csv"), sha256=sha256)
    before = catalog.fetch(spec, home)
    web.shutdown()
    web.server_close()
    told: list[str] = []
    for _ in range(2):
        assert catalog.fetch(spec, home, progress=lambda what, *_: told.append(what)) == before
    assert files(before.root).keys() == {"1.png", "2.png", "l.csv", "l.csv.origin.json"}
    assert told == [f"{spec.source} cannot be reached; using the copy of an earlier run"] * 2
    return spec, before.root


def test_without_the_server_a_listing_of_another_digest_than_asked_for_is_not_used(web, home, monkeypatch):
    monkeypatch.setattr(download, "Patience", lambda: Patience(attempts=2, first_wait_s=0.001))
    spec, _ = fetched_then_away(web, home, sha256=None)
    with pytest.raises(DownloadError, match=r"l.csv could not be downloaded after 2 attempts .* check the network"):
        catalog.fetch(spec.model_copy(update={"sha256": "0" * 64}), home)


def test_a_copy_of_another_listing_is_not_used(web, home, monkeypatch):
    """The server goes after it has given the new listing."""
    monkeypatch.setattr(download, "Patience", lambda: Patience(attempts=2, first_wait_s=0.001))
    content = {"/l.csv": listing(["1.png", "2.png"]), "/1.png": b"one", "/2.png": b"two!"}
    web.answers = [site(content)]
    spec = DatasetSpec(source=web.url("l.csv"))
    root = catalog.fetch(spec, home).root
    (root / "l.csv").write_bytes(listing(["1.png", "3.png"]))
    web.shutdown()
    web.server_close()
    for _ in range(2):
        with pytest.raises(DownloadError, match="check the network and run again"):
            catalog.fetch(spec, home)
    assert (root / "2.png").read_bytes() == b"two!"


@pytest.mark.parametrize("names", [["1.png", "2.png"], ["new/1.png", "1.png"], ["new/1.png", "new/2.png"]])
def test_a_listing_of_which_nothing_is_there_any_more_leaves_what_was_fetched(web, home, names):
    content = {"/l.csv": listing(["1.png", "2.png"]), "/1.png": b"one", "/2.png": b"two!"}
    web.answers = [site(content)]
    spec = DatasetSpec(source=web.url("l.csv"))
    before = catalog.fetch(spec, home)
    web.answers = [site({"/l.csv": listing(names) + b"\n" * 7})]
    with pytest.raises(SourceError, match=rf"none of the 2 files of {spec.source} is there, such as '.*1.png'; check"):
        catalog.fetch(spec, home)
    assert {"1.png", "2.png"} <= files(before.root).keys()
    web.answers = [site(content)]
    assert catalog.fetch(spec, home) == before
    assert mirror.is_whole(before.root)


def test_a_copy_that_is_half_another_one_is_not_whole_though_the_server_names_no_versions(web, home):
    content = {"/l.csv": listing(["1.png", "2.png"]), "/1.png": b"one", "/2.png": b"two"}

    def nameless(request: BaseHTTPRequestHandler) -> None:
        file = content.get(request.path)
        request.send_response(500 if file is None else 200)
        request.send_header("Content-Length", str(len(file or b"")))
        request.end_headers()
        request.wfile.write(file or b"")

    web.answers = [nameless]
    spec = DatasetSpec(source=web.url("l.csv"))
    root = catalog.fetch(spec, home).root
    content["/1.png"] = b"new"
    two = content.pop("/2.png")
    with pytest.raises(DownloadError, match="status 500"):
        catalog.fetch(spec, home)
    assert files(root)["1.png"] == b"new"
    assert not mirror.is_whole(root)
    content["/2.png"] = two
    assert mirror.is_whole(catalog.fetch(spec, home).root)


def test_what_comes_in_during_a_run_is_for_the_next_one(web, home, png):
    names = [f"{i}.png" for i in range(20)]
    content = {f"/{name}": png(i) for i, name in enumerate(names)} | {"/l.csv": listing(names)}
    web.answers = [site(content)]
    spec = DatasetSpec(source=web.url("l.csv"), size=8)
    before = prepare(spec, home).images.snapshot
    content |= {"/l.csv": listing([*names, "new.png"]), "/new.png": png(99)}
    asked = len(web.requests)
    assert prepare(spec, home, again=True).images.snapshot.fingerprint == before.fingerprint
    assert len(web.requests) == asked
    assert len(prepare(spec, home).images.snapshot.files) == 21


def test_pictures_that_are_too_much_together_are_refused(web, home, monkeypatch):
    monkeypatch.setattr(mirror, "MOST_BYTES", 1000)
    content = {f"/{i}.png": bytes(300) for i in range(3)}
    web.answers = [site(content | {"/l.csv": listing(["0.png", "1.png", "2.png"])})]
    assert catalog.fetch(DatasetSpec(source=web.url("l.csv")), home)
    content |= {"/l.csv": listing(["0.png", "1.png", "2.png", "3.png"]), "/3.png": bytes(300)}
    web.answers = [site(content)]
    with pytest.raises(SourceError, match=r"l.csv has more than 1,000 bytes; fetch it yourself and name the folder"):
        catalog.fetch(DatasetSpec(source=web.url("l.csv")), home)


@pytest.mark.slow
def test_a_secret_of_the_environment_is_sent_and_kept_nowhere(web, other_web, home, monkeypatch):
    content = {"/l.csv": listing(["1.png", "2.png"]), "/1.png": b"1", "/2.png": b"2"}
    web.answers = [site(content, secret="Bearer swordfish")]
    spec = DatasetSpec(source=web.url("l.csv"))
    with pytest.raises(DownloadError, match="status 403 Forbidden; give what it wants to see in"):
        catalog.fetch(spec, home)
    host = f"127.0.0.1:{web.server_address[1]}"
    monkeypatch.setenv("TRAINSERVE_SOURCE_HEADER", f"{host} Authorization: Bearer swordfish")
    root = catalog.fetch(spec, home).root
    assert files(root)["2.png"] == b"2"
    assert not [path for path in home.rglob("*") if path.is_file() and b"swordfish" in path.read_bytes()]
    other_web.answers = [site({"/1.png": b"elsewhere", "/2.png": b"there"})]

    def sent_on(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", other_web.url(request.path[1:]))
        request.send_header("Content-Length", "0")
        request.end_headers()

    web.answers = [site(content, secret="Bearer swordfish"), sent_on]
    assert files(catalog.fetch(spec, home).root)["1.png"] == b"elsewhere"
    assert len(other_web.requests) == 2
    assert not any("swordfish" in str(headers) for headers in other_web.requests)


def test_too_many_pictures_to_ask_for_one_by_one_are_refused(web, home, monkeypatch):
    monkeypatch.setattr(remote, "MOST_LISTED", 3)
    web.answers = [site({"/l.csv": listing([f"{i}.png" for i in range(4)])})]
    with pytest.raises(SourceError, match=r"lists 4 pictures, and at most 3 are fetched one by one; pack them"):
        catalog.fetch(DatasetSpec(source=web.url("l.csv")), home)
    assert len(web.requests) == 1


@pytest.mark.parametrize("name", ["../1.png", "/etc/1.png", "a/../../1.png", "http://other/1.png", "a\\\\b.png"])
def test_a_listing_that_names_what_lies_elsewhere_is_refused(web, home, name):
    web.answers = [site({"/l.csv": listing([name])})]
    with pytest.raises(SourceError):
        catalog.fetch(DatasetSpec(source=web.url("l.csv")), home)
    assert len(web.requests) == 1
    assert not list(home.rglob("*.png"))


def test_a_picture_that_keeps_breaking_is_one_sentence_and_nothing_half_is_there(web, home):
    web.answers = [site({"/l.csv": listing(["1.png"])}), site({"/1.png": b"whole"}, short={"/1.png"})]

    def always_short(request: BaseHTTPRequestHandler) -> None:
        site({"/1.png": b"whole"}, short={"/1.png"})(request)

    web.answers[1] = always_short
    with pytest.raises(DownloadError, match=r"could not be downloaded after 3 attempts .* which goes on from there"):
        catalog.fetch(DatasetSpec(source=web.url("l.csv")), home)
    assert not list(home.rglob("1.png"))


def test_a_picture_without_end_is_refused(web, home, monkeypatch):
    monkeypatch.setattr("data.sources.web.LARGEST", 10)
    web.answers = [site({"/l.csv": listing(["1.png"]), "/1.png": b"x" * 20})]
    with pytest.raises(DownloadError, match="is larger than 10 bytes, and so no picture; leave it out"):
        catalog.fetch(DatasetSpec(source=web.url("l.csv")), home)


def test_a_picture_that_drips_is_given_up(web, tmp_path, monkeypatch):
    """A minute passes from one look at the clock to the next, and there is one for each piece that came."""
    web.answers = [site({"/1.png": b"x" * 200})]
    minutes = count()
    monkeypatch.setattr(time, "monotonic", lambda: 60.0 * next(minutes))
    with pictures(web.url("l.csv"), {}, Patience(attempts=1)) as bring, pytest.raises(DownloadError, match="in 60 s"):
        bring("1.png", None, tmp_path / "1.png")
    assert not (tmp_path / "1.png").exists()


@pytest.mark.slow  # a process of its own
def test_a_process_that_is_killed_leaves_whole_pictures_and_the_next_fetches_the_others(web, home):
    content = {f"/{i}.png": bytes([i]) * 2000 for i in range(100)}
    names = [name[1:] for name in content]
    served: list[str] = []
    waiting, killed = threading.Event(), threading.Event()
    whole = site(content | {"/l.csv": listing(names)})

    def answer(request: BaseHTTPRequestHandler) -> None:
        if len(served) >= 40 and not killed.is_set():
            request.send_response(200)
            request.send_header("Content-Length", "2000")
            request.end_headers()
            request.wfile.write(b"half of it")
            waiting.set()
            killed.wait(60)
            return
        if "If-None-Match" not in request.headers:
            served.append(request.path)
        whole(request)

    web.answers = [answer]
    code = (
        "import sys; from data import catalog, spec; from pathlib import Path; catalog.fetch(spec.DatasetSpec(source="
    )
    code += f"{web.url('l.csv')!r}), Path({str(home)!r}))"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert waiting.wait(60)
        process.kill()
    killed.set()
    (before,) = (home / "datasets").glob("l-*")
    assert all(path.read_bytes() == content[f"/{path.name}"] for path in before.rglob("*.png"))
    there = len(list(before.rglob("*.png")))
    served.clear()
    root = catalog.fetch(DatasetSpec(source=web.url("l.csv")), home).root
    assert {f"/{name}": one for name, one in files(root).items() if name.endswith(".png")} == content
    assert 100 - there <= len(served) <= 100 - there + 16  # those whose line the kill cut off come once more
    assert not list(root.rglob("*.part"))
