"""Who may ask the service, how often, from which pages, and whose files it believes."""

import asyncio
import grp
import json
import os
import re
import shlex
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import toy
from conftest import Running, running
from starlette.datastructures import Headers
from starlette.routing import Router

from data.errors import InputError
from flows.cli import in_service
from flows.cli.app import app, main
from serving import keys, settings, start, store, writers
from serving.client import Client, ServiceError
from serving.errors import TooOftenError, UnauthorizedError
from serving.http.app import Front
from serving.http.gate import OPEN, Gate
from serving.http.openapi import document
from serving.keys import KeysError
from serving.refs import ModelRef
from serving.served import RefusedError, serve
from tests.ports import free_port

BRIGHT = toy.picture(200)
US = frozenset({0, os.geteuid()})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.txt"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def gate(file: Path, clock: Clock, shared: Path | None = None) -> Gate:
    return Gate(file, trusted=US, poll_s=0.25, shared=shared, clock=clock)


def ask(gate: Gate, key: str | None, *, path: str = "/predict") -> None:
    gate.admit(path, Headers({} if key is None else {"Authorization": f"Bearer {key}"}))


# The file


def test_a_new_key_is_shown_once_and_only_its_hash_is_kept(file):
    key = keys.new(file, "shop", rate=10)
    assert key.startswith("ts_")
    assert len(key) == 3 + 43  # 256 bits
    assert key not in file.read_text()
    (held,) = keys.read(file, US)
    assert (held.name, held.digest, held.rate) == ("shop", keys.digest(key), 10)


def test_what_people_wrote_into_the_file_stays(file):
    file.write_text(f"# the shop\nshop {'0' * 64}  # till May\n\nlab {'1' * 64} 2.5")
    keys.new(file, "phone")
    keys.remove(file, "lab")
    assert file.read_text().startswith(f"# the shop\nshop {'0' * 64}  # till May\n\nphone ")
    assert [key.name for key in keys.listed(file)] == ["shop", "phone"]


@pytest.mark.parametrize(
    "line",
    ["shop", "shop ts_secret", f"shop {'A' * 64}", f"shop {'0' * 64} fast", f"shop {'0' * 64} 0", f"../x {'0' * 64}"],
)
def test_a_line_that_is_not_understood_is_named_by_its_number_and_never_shown(file, line):
    file.write_text(f"# first\n{line}\n")
    with pytest.raises(KeysError, match="line 2") as caught:
        keys.read(file, US)
    assert "secret" not in str(caught.value)


def test_a_name_is_given_once(file):
    keys.new(file, "shop")
    with pytest.raises(KeysError, match="there is a key 'shop'"):
        keys.new(file, "shop")
    with pytest.raises(KeysError, match="it has shop"):
        keys.remove(file, "shp")


@pytest.mark.parametrize(("name", "rate"), [("", None), ("a b", None), ("#x", None), ("x", 0.0), ("x", float("nan"))])
def test_a_name_or_rate_that_is_none_writes_nothing(file, name, rate):
    with pytest.raises(KeysError):
        keys.new(file, name, rate=rate)
    assert not file.exists()


def test_a_file_that_another_user_could_write_is_refused(file):
    keys.new(file, "shop")
    file.chmod(0o646)
    with pytest.raises(KeysError, match=r"every user.*TRAINSERVE_WRITERS"):
        keys.read(file, US)
    assert len(keys.read(file, writers.trusted("*"))) == 1


def test_the_service_does_not_start_without_the_file_that_is_named(file, monkeypatch):
    monkeypatch.setenv("TRAINSERVE_KEYS", str(file))
    with pytest.raises(InputError, match=r"cannot be read.*trainserve keys new"):
        start.serve(port=free_port())


# The gate


def test_a_key_is_taken_as_bearer_or_in_its_own_header(file, clock):
    key = keys.new(file, "shop")
    shut = gate(file, clock)
    for name, value in (("Authorization", f"Bearer {key}"), ("authorization", f"bearer  {key}"), ("X-API-Key", key)):
        shut.admit("/predict", Headers({name: value}))
    shut.admit("/predict", Headers({"Authorization": "Basic proxy", "X-API-Key": key}))


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}, {"X-API-Key": ""}]
)
def test_without_a_key_nobody_gets_in(file, clock, header):
    keys.new(file, "shop")
    with pytest.raises(UnauthorizedError, match="a key is needed"):
        gate(file, clock).admit("/predict", Headers(header))


def test_another_key_is_refused_also_one_of_characters_that_no_key_has(file, clock):
    key = keys.new(file, "shop")
    shut = gate(file, clock)
    for wrong in (key[:-1], key + "x", "üé", keys.digest(key).hex(), "x" * 100_000):
        with pytest.raises(UnauthorizedError, match="not known"):
            ask(shut, wrong)


def test_the_paths_for_watchers_and_the_page_are_open_and_no_other(file, clock):
    keys.new(file, "shop")
    shut = gate(file, clock)
    for path in OPEN:
        ask(shut, None, path=path)
    for path in ("/metrics", "/model", "/samples", "/samples/0", "/nothing", "/ui/", "//livez", "/livez/../model", ""):
        with pytest.raises(UnauthorizedError):
            ask(shut, None, path=path)


def test_keys_are_exchanged_while_it_runs(file, clock):
    old = keys.new(file, "shop")
    shut = gate(file, clock)
    ask(shut, old)
    new = keys.new(file, "shop-2")
    clock.now += 0.3
    ask(shut, old)
    ask(shut, new)
    keys.remove(file, "shop")
    clock.now += 0.3
    ask(shut, new)
    with pytest.raises(UnauthorizedError):
        ask(shut, old)


def test_between_two_looks_the_file_is_not_touched(file, clock):
    key = keys.new(file, "shop")
    shut = gate(file, clock)
    ask(shut, key)
    keys.remove(file, "shop")
    clock.now += 0.2
    ask(shut, key)


@pytest.mark.parametrize("damage", ["broken", "gone", "foreign"])
def test_a_file_that_became_unusable_leaves_the_keys_of_before(file, clock, damage):
    key = keys.new(file, "shop")
    shut = gate(file, clock)
    ask(shut, key)
    match damage:
        case "broken":
            file.write_text("half a li")
        case "gone":
            file.unlink()
        case "foreign":
            file.chmod(0o666)
    clock.now += 1
    ask(shut, key)
    file.unlink(missing_ok=True)
    other = keys.new(file, "lab")
    clock.now += 1
    ask(shut, other)


def test_where_there_never_was_a_usable_file_no_key_is_known(file, clock):
    shut = gate(file, clock)
    with pytest.raises(UnauthorizedError):
        ask(shut, "")
    key = keys.new(file, "shop")
    clock.now += 1
    ask(shut, key)


def test_a_key_may_ask_as_often_as_its_line_says(file, clock):
    key, other = keys.new(file, "shop", rate=2), keys.new(file, "lab")
    shut = gate(file, clock)
    for _ in range(2):
        ask(shut, key)
    with pytest.raises(TooOftenError, match="2 requests a second") as caught:
        ask(shut, key)
    assert caught.value.retry_after_s == 1
    for _ in range(100):
        ask(shut, other)
    clock.now += 0.5
    ask(shut, key)
    with pytest.raises(TooOftenError):
        ask(shut, key)


def test_what_was_not_used_is_saved_for_a_second_at_most(file, clock):
    key = keys.new(file, "shop", rate=3)
    shut = gate(file, clock)
    clock.now += 3600
    for _ in range(3):
        ask(shut, key)
    with pytest.raises(TooOftenError):
        ask(shut, key)


def test_a_rate_below_one_says_how_long_to_wait(file, clock):
    key = keys.new(file, "night", rate=0.1)
    shut = gate(file, clock)
    ask(shut, key)
    with pytest.raises(TooOftenError) as caught:
        ask(shut, key)
    assert caught.value.retry_after_s == 10


def test_another_rate_in_the_file_holds_at_once(file, clock):
    key = keys.new(file, "shop", rate=1)
    shut = gate(file, clock)
    ask(shut, key)
    file.write_text(file.read_text().replace(" 1\n", " 50\n"))
    clock.now += 0.3
    for _ in range(50):
        ask(shut, key)


def test_workers_count_a_rate_together_where_they_have_a_folder(file, clock, tmp_path):
    shop, slow = keys.new(file, "shop", rate=4), keys.new(file, "slow.db", rate=1)
    one, other = gate(file, clock, tmp_path), gate(file, clock, tmp_path)
    for shut in (one, other, one, other):
        ask(shut, shop)
    for shut in (one, other):
        with pytest.raises(TooOftenError):
            ask(shut, shop)
    ask(one, slow)
    clock.now += 0.5
    ask(other, shop)
    ask(one, shop)
    with pytest.raises(TooOftenError):
        ask(other, shop)
    assert not list(tmp_path.glob("*.db")), "which would be taken for figures"
    file.write_text(file.read_text().replace(" 4\n", " 50\n"))
    clock.now += 0.3
    for _ in range(25):
        ask(one, shop)
        ask(other, shop)
    with pytest.raises(TooOftenError):
        ask(one, shop)


def test_a_worker_whose_clock_was_read_before_the_others_takes_nothing_away(file, clock, tmp_path):
    shop = keys.new(file, "shop", rate=2)
    late = Clock()
    one, other = gate(file, clock, tmp_path), gate(file, late, tmp_path)
    ask(one, shop)
    late.now -= 100
    ask(other, shop)
    with pytest.raises(TooOftenError) as caught:
        ask(one, shop)
    assert caught.value.retry_after_s == 1


def test_a_stranger_is_answered_before_a_byte_of_the_body_is_read(file, clock):
    keys.new(file, "shop")
    events: list[str] = []

    async def receive() -> dict[str, object]:
        events.append("read")
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        events.append(str(message.get("status", "body")))

    headers = [(b"content-length", b"1000000")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
    asyncio.run(Front(Router([]), gate=gate(file, clock), access_log=False)(scope, receive, send))
    assert events == ["401", "body", "read", "body"]


def test_the_documentation_says_where_a_key_is_needed(file):
    open_, locked = document(settings.load()), document(settings.load(keys=file))
    assert "security" not in open_
    assert locked["security"] == [{"bearer": []}, {"header": []}]
    assert locked["paths"]["/livez"]["get"]["security"] == []
    assert "401" in locked["paths"]["/predict"]["post"]["responses"]


# Whose files are believed


def info(mode: int, *, user: int = 0, group: int = 0) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, user, group, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "believed"),
    [
        (stat.S_IFREG | 0o644, 0, True),
        (stat.S_IFREG | 0o644, os.geteuid(), True),
        (stat.S_IFREG | 0o600, 54321, False),
        (stat.S_IFREG | 0o646, 0, False),
        (stat.S_IFDIR | 0o777, 0, False),
        (stat.S_IFDIR | 0o1777, 0, True),  # as /tmp: nobody replaces what is another's
    ],
)
def test_only_files_that_nobody_else_could_write_are_believed(mode, owner, believed):
    assert (writers.stranger(info(mode, user=owner, group=99999), US) is None) == believed


def test_a_group_may_write_if_it_is_the_users_own():
    private = grp.getgrnam("root").gr_gid
    shared = next(entry.gr_gid for entry in grp.getgrall() if entry.gr_name in ("users", "daemon", "mail"))
    for group, believed in ((private, True), (shared, False), (987654, False)):
        assert (writers.stranger(info(stat.S_IFREG | 0o664, group=group), US) is None) == believed


def test_further_writers_are_named_by_name_or_number(monkeypatch):
    monkeypatch.setenv("TRAINSERVE_WRITERS", "daemon,54321")
    trusted = writers.trusted(settings.load().writers)
    assert trusted is not None
    assert writers.stranger(info(stat.S_IFREG | 0o644, user=54321), trusted) is None
    monkeypatch.setenv("TRAINSERVE_WRITERS", "nobody-of-that-name")
    with pytest.raises(InputError, match="there is no user 'nobody-of-that-name'"):
        settings.load()


@pytest.fixture
def stored(home: Path, toy_bundle: Path) -> tuple[Path, ModelRef]:
    ref = store.save(toy_bundle)
    store.promote(ref, reason="")
    return home, ref


@pytest.mark.parametrize(
    "place",
    [
        "models/toy/v1/bundle/model.onnx",
        "models/toy/v1/bundle/golden",
        "models/toy/v1/bundle",
        "models/toy",
        "trainserve/aliases/toy.json",
        "",
    ],
)
def test_a_model_that_another_user_could_write_is_refused_in_one_sentence(stored, place):
    home, ref = stored
    (home / place).chmod((home / place).stat().st_mode | stat.S_IWOTH)
    with pytest.raises(
        RefusedError, match=r"can be written by every user.*chmod -R go-w.*TRAINSERVE_WRITERS"
    ) as caught:
        serve(ref, settings.load())
    assert str(home) not in str(caught.value)
    assert serve(ref, settings.load(writers="*")).ref == ref


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_model_that_belongs_to_another_user_is_refused_unless_he_is_named(stored):
    _, ref = stored
    os.chown(store.path(ref) / "card.json", 54321, -1)
    with pytest.raises(RefusedError, match="belongs to user 54321"):
        serve(ref, settings.load())
    assert serve(ref, settings.load(writers="54321")).ref == ref


# The service


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
    home = tmp_path_factory.mktemp("locked") / "bentoml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(home))
        store.promote(store.save(toy_bundle), reason="first")
    with running(home, keys=str(file_of_service), cors="https://app.example", access_log="true") as service:
        service.wait("/readyz")
        yield service


def test_who_has_no_key_gets_401_and_a_sentence_that_says_how(locked):
    answer = httpx.post(locked.url + "/predict", files={"image": BRIGHT}, headers={"X-Request-Id": "r1"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert set(answer.json()) == {"error", "request_id"}
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "r1"
    assert "Authorization: Bearer" in answer.json()["error"]
    for path in ("/model", "/metrics", "/samples/0", "/nothing"):
        assert locked.get(path).status_code == 401


def test_a_picture_that_is_sent_without_a_key_is_refused_and_not_cut_off(locked):
    for size in (1_000_000, 10_000_000):
        answer = httpx.post(locked.url + "/predict", content=bytes(size))
        assert answer.status_code == 401


def test_who_watches_needs_none(locked):
    for path in OPEN:
        assert locked.get(path).is_success


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


def test_a_key_made_and_taken_away_at_the_command_line_reaches_the_running_service(
    locked, file_of_service, capsys, monkeypatch
):
    monkeypatch.setenv("TRAINSERVE_KEYS", str(file_of_service))
    main(["keys", "new", "phone", "--rate", "0.001"])
    made = capsys.readouterr().out.strip()
    header = {"X-API-Key": made}
    await_status(200, locked, header)
    refused = httpx.get(locked.url + "/model", headers=header)
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 900) == (429, True)
    main(["keys", "list"])
    assert capsys.readouterr().out == "tests\nphone  0.001 requests a second\n"
    main(["keys", "remove", "phone"])
    await_status(401, locked, header)


def await_status(status: int, service: Running, headers: dict[str, str]) -> None:
    """A change of the file reaches the service at its next look."""
    end = time.monotonic() + 30
    while httpx.get(service.url + "/model", headers=headers).status_code != status:
        assert time.monotonic() < end
        time.sleep(0.05)


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
        field.fill("ts_wrong")
        page.keyboard.press("Enter")
        page.get_by_text("This key is not known here").wait_for()
        field.fill(key)
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("version v1").wait_for()
        field.wait_for(state="hidden")
        page.wait_for_function("[...document.images].filter((image) => image.naturalWidth > 0).length >= 5")
        page.get_by_role("button", name="Sample 4").click()
        page.get_by_text("bright ").first.wait_for()
        page.reload()
        page.get_by_text("version v1").wait_for()
        browser.close()
