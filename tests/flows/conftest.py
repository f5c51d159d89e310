"""A tiny folder of pictures, the console script, and a real Prefect server."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `lamps` and `servers`; the tests are no package

from lamps import NARROW, SHORT, Command, FinishedRun, draw, environment
from servers import QUICK, PrefectServer, Template


@pytest.fixture(scope="session", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    own = tmp_path_factory.getbasetemp()
    Template.folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("source") / "lamps")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, environment(tmp_path))


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; a home of its own, gone with the session."""
    with PrefectServer(tmp_path_factory.mktemp("prefect-server")) as server:
        yield server.url


@pytest.fixture(scope="module")
def quick_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server of the module's own, whose loops run every second or two; tests may kill it and start it again."""
    with PrefectServer(tmp_path_factory.mktemp("quick-server"), more=QUICK) as server:
        yield server


@pytest.fixture(scope="session")
def finished(prefect_server: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The whole chain, once, against the real server."""
    home = tmp_path_factory.mktemp("finished")
    command = Command(home, environment(home, PREFECT_API_URL=f"{prefect_server}/api"))
    done = command("run", "--dataset.source", pictures, "--crossval.folds", "2", *NARROW, *SHORT, "--json")
    assert done.returncode == 0, done.stderr
    return FinishedRun(json.loads(done.stdout), done.stderr, prefect_server, command)
