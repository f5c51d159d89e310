"""A tiny folder of pictures, the console script, and a real Prefect server."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `lamps`; the tests are no package

from lamps import TINY, Command, FinishedRun, draw, environment, wait_for


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("source") / "lamps")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, environment(tmp_path))


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; a home of its own, gone with the session."""
    home = tmp_path_factory.mktemp("prefect-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    env = environment(home, PREFECT_UI_API_URL=f"{url}/api", PREFECT_API_URL=f"{url}/api")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: _answers(f"{url}/api/health"), timeout_s=180)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="session")
def finished(prefect_server: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The whole chain, once, against the real server."""
    home = tmp_path_factory.mktemp("finished")
    command = Command(home, environment(home, PREFECT_API_URL=f"{prefect_server}/api"))
    done = command("run", "--dataset.source", pictures, "--crossval.folds", "2", *TINY, "--json")
    assert done.returncode == 0, done.stderr
    return FinishedRun(json.loads(done.stdout), done.stderr, prefect_server, command)
