"""A real service in a process of its own, on a toy model whose right answers are known."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `toy`; the tests are no package

import toy

from serving import store
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
# What no answer may tell a stranger: addresses, paths, other libraries.
LEAKS = re.compile(r"0x[0-9a-f]{6}|/tmp|/work|/usr|site-packages|\.py\b|PIL|Traceback|BytesIO")
SLOW_TO_IMPORT = ("test_openapi.py",)  # all their tests are marked slow
START_S = 90.0  # within which anything happens that will happen: this machine may be busy


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Every process of a test run imports every file that it collects, whatever it will run of it."""
    return (collection_path.name in SLOW_TO_IMPORT and "not slow" in config.option.markexpr) or None


@dataclass
class Running:
    """A service that was started by a test."""

    process: "subprocess.Popen[str]"
    port: int
    home: Path  # its BENTOML_HOME
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def memory(self) -> int:
        """Bytes that its workers hold."""
        return sum(worker.memory_info().rss for worker in psutil.Process(self.process.pid).children())

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=START_S)

    def wait(self, path: str) -> None:
        """Until `path` answers with 200."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.url + path, timeout=5).is_success:
                    return
            time.sleep(0.03)
        raise AssertionError(f"{path} did not answer within {START_S} s: {self.log.read_text()}")


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + START_S
    while not happened():
        assert time.monotonic() < end, f"it has not happened after {START_S} s"
        time.sleep(0.02)


@contextlib.contextmanager
def running(home: Path, *, module: Sequence[str] = ("serving.start",), **settings: str) -> Iterator[Running]:
    """Start a service on `home`, of one worker; its whole process group is ended afterwards, whatever the test did."""
    port = free_port()
    log = home.parent / f"service-{port}.log"
    chosen = {f"TRAINSERVE_{name}".upper(): value for name, value in {"workers": "1", **settings}.items() if value}
    environment = {
        **os.environ,
        **chosen,
        "BENTOML_HOME": str(home),
        "TRAINSERVE_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    (home.parent / "models").mkdir(exist_ok=True)  # where the user stands there may be anything
    (home.parent / "models" / "__init__.py").write_text("raise RuntimeError('not ours')")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in module)],
            env=environment,
            cwd=home.parent,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    service = Running(process, port, home, log)
    try:
        service.wait("/livez")
        yield service
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def home_is(home: Path) -> Iterator[None]:
    """The store of this process is the one at `home`, inside the block."""
    before = os.environ.get("BENTOML_HOME")
    os.environ["BENTOML_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["BENTOML_HOME"]
        else:
            os.environ["BENTOML_HOME"] = before


@contextlib.contextmanager
def serving(folder: Path, bundle: Path, **settings: str) -> Iterator[Running]:
    """A service, ready, with this bundle promoted, and its BentoML home in `folder`."""
    with home_is(folder / "bentoml"):
        store.promote(store.save(bundle), reason="first")
    with running(folder / "bentoml", **settings) as service:
        service.wait("/readyz")
        yield service


@pytest.fixture(scope="session", autouse=True)
def _never_the_users_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with home_is(tmp_path_factory.mktemp("nobody") / "bentoml"):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty BentoML home, which `serving.store` uses."""
    with home_is(tmp_path / "bentoml"):
        yield tmp_path / "bentoml"


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """toy@v1: bright above 127.5."""
    return toy.bundle(tmp_path_factory.mktemp("bundles") / "v1", version="v1")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, toy_bundle: Path) -> Iterator[Running]:
    """A service with toy@v1 in it, for tests that only ask."""
    limits = {"max_pictures": "8", "max_batch_upload_bytes": "20000000"}
    with serving(tmp_path_factory.mktemp("service"), toy_bundle, **limits) as service:
        yield service


@pytest.fixture(scope="session")
def client(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=START_S) as client:
        yield client
