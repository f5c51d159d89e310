"""Who may ask the service, and how often: the file of keys, and the gate that follows it."""

import asyncio
import contextlib
import fcntl
import os
import resource
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.routing import Router

from data.errors import InputError
from serving import keys, settings, start, writers
from serving.errors import TooOftenError, UnauthorizedError
from serving.http.app import Front
from serving.http.gate import OPEN, Gate
from serving.http.openapi import document
from serving.keys import KeysError
from tests.ports import free_port

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


@pytest.mark.parametrize("written", ["shop\u00a0{}", "# old\u2028shop {}", "lab {}\x0cshop {}", "  shop\t{}\r\n"])
def test_nothing_is_left_of_a_key_that_was_taken_away(file, written):
    file.write_bytes(written.format("0" * 64, "1" * 64).encode())
    with contextlib.suppress(KeysError):  # there was none, or the file is not understood
        keys.remove(file, "shop")
        assert "shop" not in [key.name for key in keys.listed(file)]


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


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(file, clock, caplog):
    old = keys.new(file, "shop")
    shut = gate(file, clock)
    ask(shut, old)
    keys.remove(file, "shop")
    new = keys.new(file, "lab")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # as where too many connections are open
    try:
        for _ in range(5):
            clock.now += 1
            ask(shut, old)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert caplog.text.count("keys of before hold") == 1
    clock.now += 1
    ask(shut, new)
    with pytest.raises(UnauthorizedError):
        ask(shut, old)


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


@pytest.mark.parametrize(("rate", "saved", "wait_s"), [(3, 3, 1), (0.1, 1, 10)])
def test_what_was_not_used_is_saved_for_a_second_at_most_and_then_it_says_how_long_to_wait(
    file, clock, rate, saved, wait_s
):
    key = keys.new(file, "shop", rate=rate)
    shut = gate(file, clock)
    ask(shut, key)
    clock.now += 3600
    for _ in range(saved):
        ask(shut, key)
    with pytest.raises(TooOftenError) as caught:
        ask(shut, key)
    assert caught.value.retry_after_s == wait_s


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


def test_a_worker_that_stands_still_while_it_counts_holds_up_no_other(file, clock, tmp_path):
    shop = keys.new(file, "shop", rate=2)
    shut = gate(file, clock, tmp_path)
    ask(shut, shop)
    with (tmp_path / "shop.rate").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ask(shut, shop)
        with pytest.raises(TooOftenError):
            ask(shut, shop)


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
