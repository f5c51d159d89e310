"""A service with keys: what strangers get, what a key opens, which pages may ask, what every answer says."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import toy
from conftest import Running, serving, until

from data.errors import InputError
from flows.cli import in_service
from flows.cli.app import app, main
from serving import keys, settings
from serving.client import Client, ServiceError
from serving.http.gate import OPEN
from serving.refs import ModelRef

BRIGHT = toy.picture(200)


def test_the_commands_of_the_documentation_are_known_to_the_command_line():
    text = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()
    commands = re.findall(r"^(?:TRAINSERVE_\S+ )?trainserve ([^#>\n]+)", text, re.M)
    assert len(commands) > 6
    for command in commands:
        app.parse_args(shlex.split(command), exit_on_error=False, print_error=False)


@pytest.fixture(scope="module")
def file_of_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.txt"


@pytest.fixture(scope="module")
def key(file_of_service: Path) -> str:
    return keys.new(file_of_service, "tests")


@pytest.fixture(scope="module")
def locked(
    tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path, file_of_service: Path, key: str
) -> Iterator[Running]:
    """A service with keys, which pages of one origin may ask."""
    assert key
    chosen = {"keys": str(file_of_service), "cors": "https://app.example", "access_log": "true"}
    with serving(tmp_path_factory.mktemp("locked"), toy_bundle, **chosen) as service:
        yield service


@pytest.mark.slow
def test_who_has_no_key_gets_401_and_a_sentence_that_says_how(locked):
    answer = httpx.post(locked.url + "/predict", files={"image": BRIGHT}, headers={"X-Request-Id": "r1"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert set(answer.json()) == {"error", "request_id"}
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "r1"
    assert "Authorization: Bearer" in answer.json()["error"]
    for path in ("/model", "/metrics", "/samples/0", "/nothing"):
        assert locked.get(path).status_code == 401


@pytest.mark.slow
def test_a_picture_that_is_sent_without_a_key_is_refused_and_not_cut_off(locked):
    for size in (1_000_000, 10_000_000):
        answer = httpx.post(locked.url + "/predict", content=bytes(size))
        assert answer.status_code == 401


@pytest.mark.slow
def test_who_watches_needs_none(locked):
    for path in OPEN:
        assert locked.get(path).is_success


@pytest.mark.slow
def test_the_client_and_the_command_line_take_the_key_from_the_environment(locked, key, tmp_path, capsys, monkeypatch):
    with Client(locked.url) as client, pytest.raises(ServiceError) as caught:
        client.predict(BRIGHT)
    assert caught.value.status == 401
    with Client(locked.url, key=key) as client:
        assert client.predict(BRIGHT).label == "bright"
    assert "TRAINSERVE_KEY" in in_service.reached(ModelRef(name="toy", version="v1"), locked.url)
    monkeypatch.setenv("TRAINSERVE_KEY", key + "\n")
    with Client(locked.url) as client:
        assert client.model()["model"] == "toy@v1"
    assert in_service.reached(ModelRef(name="toy", version="v1"), locked.url).endswith("answers with it")
    picture = tmp_path / "a.png"
    picture.write_bytes(BRIGHT)
    main(["predict", str(picture), "--url", locked.url, "--json"])
    assert json.loads(capsys.readouterr().out)["label"] == "bright"


def test_a_key_that_no_header_can_hold_is_a_sentence(monkeypatch):
    monkeypatch.setenv("TRAINSERVE_KEY", "ts_ü")
    with pytest.raises(InputError, match="TRAINSERVE_KEY"):
        Client()


@pytest.mark.slow
def test_a_key_made_and_taken_away_at_the_command_line_reaches_the_running_service(
    locked, file_of_service, capsys, monkeypatch
):
    monkeypatch.setenv("TRAINSERVE_KEYS", str(file_of_service))
    main(["keys", "new", "phone", "--rate", "0.001"])
    made = capsys.readouterr().out.strip()
    header = {"X-API-Key": made}
    until(lambda: status(locked, header) == 200)
    refused = httpx.get(locked.url + "/model", headers=header)
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 900) == (429, True)
    main(["keys", "list"])
    assert capsys.readouterr().out == "tests\nphone  0.001 requests a second\n"
    main(["keys", "remove", "phone"])
    until(lambda: status(locked, header) == 401)


def status(service: Running, headers: dict[str, str]) -> int:
    return httpx.get(service.url + "/model", headers=headers).status_code


@pytest.mark.slow
def test_no_key_is_ever_in_an_answer_the_log_or_the_figures(locked, key):
    wrong = "ts_wrong-but-secret"
    headers = {"Authorization": f"Bearer {key}"}
    answers = [
        httpx.get(locked.url + "/model", headers={"X-API-Key": wrong}),
        httpx.get(locked.url + "/nothing", headers=headers),
        httpx.post(locked.url + "/predict", content=b"text", headers=headers),
        httpx.get(locked.url + "/metrics", headers=headers),
    ]
    assert 'trainserve_key_requests_total{key="tests"}' in answers[-1].text
    for told in (*(answer.text + str(answer.headers) for answer in answers), locked.log.read_text()):
        assert key not in told
        assert wrong not in told


@pytest.mark.slow
def test_every_answer_has_the_security_headers(locked, key):
    for path in ("/livez", "/model", "/nothing", "/metrics"):
        headers = httpx.get(locked.url + path, headers={"X-API-Key": key}).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["Cache-Control"] == "no-store"
    page = httpx.get(locked.url + "/ui").headers
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]
    assert page["Cache-Control"] == "no-cache"


@pytest.mark.slow
def test_pages_of_the_named_origin_may_ask_and_read_why_they_may_not(locked):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
        preflight = httpx.options(locked.url + "/predict", headers={"Origin": origin, **asked})
        assert preflight.is_success == allowed
        refused = httpx.get(locked.url + "/model", headers={"Origin": origin})
        assert refused.status_code == 401
        assert refused.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


def test_pages_of_other_origins_may_not_ask_by_default(client):
    answer = client.get("/model", headers={"Origin": "https://app.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", ["app.example", "https://a.example/path", "https://a.example, https://b.example"])
def test_an_origin_that_is_none_is_refused_at_start(origins):
    with pytest.raises(InputError, match="TRAINSERVE_CORS"):
        settings.load(cors=origins)


PASTED = """(field) => field.dispatchEvent(
  new ClipboardEvent("paste", { clipboardData: new DataTransfer(), bubbles: true }))"""


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_asks_for_the_key_and_works_with_it(locked, key):
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(locked.url + "/ui")
        page.get_by_text("A key is needed").wait_for()
        field = page.get_by_label("This service wants a key")
        field.evaluate(PASTED)
        assert page.get_by_role("alert").count() == 0, "it is a key that was pasted, and no picture was meant"
        field.fill("ts_wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This key is not known here").wait_for()
        field.fill(key)
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("version v1").wait_for()
        field.wait_for(state="hidden")
        page.get_by_role("button", name="Sample 5").wait_for()
        until(lambda: page.evaluate("[...document.images].filter((image) => image.naturalWidth > 0).length") >= 5)
        page.get_by_role("button", name="Sample 4").click()
        page.get_by_text("bright ").first.wait_for()
        page.reload()
        page.get_by_text("version v1").wait_for()
        browser.close()
