"""A Prefect server behind its auth string, pictures behind a token: everything works, and neither is kept anywhere."""

import base64
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from deployed import Deployed, Server
from lamps import TINY, Command, environment
from servers import QUICK, PrefectServer

from data.errors import InputError
from flows.server import LocalServer, authorization, require_answer

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(900)]

WORD, TOKEN, SIGNATURE = "night:swordfish-7c1e", "mellon-93ab", "open-sesame-55d0"
SECRETS = [secret.encode() for secret in (WORD, TOKEN, SIGNATURE, base64.b64encode(WORD.encode()).decode())]


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    more = {**QUICK, "PREFECT_SERVER_API_AUTH_STRING": WORD}
    with PrefectServer(tmp_path_factory.mktemp("protected"), more=more) as server:
        yield server


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def guarded(pictures: Path) -> Iterator[str]:
    """lamps.zip behind a token, on a store that it sends us on to by an address that is secret itself."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(pictures.rglob("*.png")):
            archive.write(file, file.relative_to(pictures))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == f"/store?X-Amz-Signature={SIGNATURE}":
                self.answer(200, content.getvalue())
            elif self.headers.get("Private-Token") == TOKEN:
                self.answer(302, b"", Location=f"/store?X-Amz-Signature={SIGNATURE}")
            else:
                self.answer(401, b"")

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("nobody")
def test_a_stranger_is_told_what_to_set(protected: PrefectServer, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r"is protected; set PREFECT_API_AUTH_STRING to the user:password"):
        require_answer(protected.api)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "night:wrong")
    with pytest.raises(InputError, match=r"does not accept what PREFECT_API_AUTH_STRING says") as said:
        require_answer(protected.api)
    assert "wrong" not in str(said.value)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", WORD)
    require_answer(protected.api)


@pytest.mark.usefixtures("nobody")
def test_the_word_may_be_in_prefects_profile(protected: PrefectServer, tmp_path: Path):
    assert authorization() == {}
    profile = f'active = "ci"\n[profiles.ci]\nPREFECT_API_AUTH_STRING = "{WORD}"\n'
    (tmp_path / "profiles.toml").write_text(profile)
    command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=protected.api, PREFECT_HOME=str(tmp_path)))
    refused = command("run", "--dataset.source", "no-such-set")
    assert "'no-such-set' is no folder" in refused.stderr  # it got past the server's door


@pytest.mark.parametrize("word", [None, "night:wrong"], ids=["none", "another"])
def test_a_run_ends_in_one_sentence_where_the_word_is_missing_or_wrong(
    protected: PrefectServer, tmp_path: Path, word: str | None
):
    given = {} if word is None else {"PREFECT_API_AUTH_STRING": word}
    done = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=protected.api, **given))("run", "digits")
    assert done.returncode == 2
    assert "set PREFECT_API_AUTH_STRING" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("nobody")
def test_the_address_of_the_server_must_not_hold_the_word():
    with pytest.raises(InputError, match="PREFECT_API_AUTH_STRING=user:password") as said:
        require_answer("http://night:swordfish@127.0.0.1:4200/api")
    assert "swordfish" not in str(said.value)


def test_runs_by_hand_and_by_the_server_are_completed_and_no_secret_is_kept(
    protected: PrefectServer, guarded: str, tmp_path: Path
):
    secrets = {
        "PREFECT_API_AUTH_STRING": WORD,
        "TRAINSERVE_SOURCE_HEADER": f"{guarded} Private-Token: {TOKEN}",
    }
    command = Command(tmp_path, environment(tmp_path, PREFECT_API_URL=protected.api, **secrets))
    settings = ["--dataset.source", f"http://{guarded}/lamps.zip", *TINY]
    refused = command("run", "--dataset.source", f"http://{guarded}/lamps.zip?token={TOKEN}", *TINY)
    assert refused.returncode == 2
    assert "has a secret in it, as `token`" in refused.stderr.strip().splitlines()[-1]
    done = command("run", *settings, "--json")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr + refused.stderr + by_the_server(tmp_path, protected, settings, secrets)

    assert not [secret for secret in SECRETS if secret in said.encode()]
    files = dict(everything_below(tmp_path, protected.home))
    names = {path.name for path in files}
    assert {"prefect.db", "run.json", "run.log", "report.html", "card.json", "server.log"} <= names
    database = [content for path, content in files.items() if path.name.startswith("prefect.db")]
    assert any(guarded.encode() in content for content in database)  # parameters can be read there
    leaks = [str(path) for path, content in files.items() if any(secret in content for secret in SECRETS)]
    assert not leaks


def everything_below(*homes: Path) -> Iterator[tuple[Path, bytes]]:
    """Files with what is in them, but for those that the server takes away just now."""
    for home in homes:
        for path in home.rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):
                yield path, path.read_bytes()


def by_the_server(home: Path, server: PrefectServer, settings: list[str], secrets: dict[str, str]) -> str:
    """One more run, asked for by HTTP and carried out by `trainserve deploy`; all that this says."""
    deployed = Deployed(home, server.api, *settings, **secrets)
    deployed.server = asked = Server(server.api.replace("://", f"://{WORD}@"))
    with deployed:
        deployment = asked.deployments()["train"]
        leaky = {"experiment": {"dataset": {"source": f"http://me:{TOKEN}@{settings[1][7:]}"}}}
        with pytest.raises(httpx.HTTPStatusError) as refused:
            asked.begin("train", **leaky)
        assert refused.value.response.status_code in (409, 422)
        asked.wait_until(asked.begin("train"), "Completed", timeout_s=300)
    return deployed.said() + json.dumps(deployment)


@pytest.mark.usefixtures("nobody")
def test_the_server_of_one_run_asks_for_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It ends with the run and nobody has been told one; whether the environment or a profile says it."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")  # set by the server's start, put back afterwards
    monkeypatch.setenv("PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED", "false")
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", WORD)
    profile = f'active = "ci"\n[profiles.ci]\nPREFECT_SERVER_API_AUTH_STRING = "{WORD}"\n'
    (tmp_path / "profiles.toml").write_text(profile)
    server = LocalServer(tmp_path / "server.log")
    server.start()
    try:
        server.wait()
        assert httpx.get(f"{server.api}/admin/version", timeout=90).status_code == 200
    finally:
        server.stop()
