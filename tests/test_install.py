"""An environment with the serving dependencies only, as the image has it: no torch, no prefect, and it serves."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/golden/bundle-v1"
SOURCES = ("pyproject.toml", "requirements.lock", "README.md", "LICENSE", "data", "models", "serving", "flows")

START_S = 120.0  # this machine may be busy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory) -> Path:
    """`pip install .` without extras, from a copy of the sources so that the checkout's files are out of reach."""
    folder = tmp_path_factory.mktemp("install")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv, "uv is in the `dev` extra"
    venv = folder / "venv"
    lock = ["--constraint", "requirements.lock", "--build-constraint", "requirements.lock"]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", venv / "bin/python", *lock, "."], cwd=folder, check=True
    )
    return venv / "bin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRAINSERVE", "BENTOML"))
    }
    return kept | {
        "HOME": str(home),
        "BENTOML_HOME": str(home / "bentoml"),
        "TRAINSERVE_HOME": str(home / "trainserve"),
        "BENTOML_DO_NOT_TRACK": "True",
    }


@pytest.fixture(scope="module")
def python(bin_folder, environment, tmp_path_factory):
    """Runs code in the installed environment, away from the checkout, and returns what it did."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(code: str) -> "subprocess.CompletedProcess[str]":
        command = [bin_folder / "python", "-c", code]
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("name", ["torch", "torchvision", "prefect", "sklearn", "scipy", "matplotlib", "pyarrow"])
def test_what_only_training_needs_is_not_installed(python, name):
    assert f"No module named '{name}'" in python(f"import {name}").stderr


@pytest.mark.parametrize("name", ["serving.service", "serving.client", "models.bundle.bundle"])
def test_what_serving_needs_imports(python, name):
    done = python(f"import {name}")
    assert done.returncode == 0, done.stderr


def test_programs_that_use_the_client_are_checked_by_its_types(bin_folder, tmp_path):
    (tmp_path / "program.py").write_text("from serving.client import Client\n\nx: int = Client().predict(b'').label\n")
    mypy = [sys.executable, "-m", "mypy", "--python-executable", bin_folder / "python", "--cache-dir", "cache"]
    done = subprocess.run([*mypy, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 'expression has type "str", variable has type "int"' in done.stdout, done.stdout


def test_the_command_line_starts_and_explains_itself(bin_folder, environment, tmp_path):
    command = [bin_folder / "trainserve", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def test_training_names_the_extra_that_it_needs(bin_folder, environment, tmp_path):
    command = [bin_folder / "trainserve", "run", "--dataset.source", "digits"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "trainserve[train]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_replays_its_golden_samples(python):
    done = python(
        f"from pathlib import Path; from models.bundle.bundle import Bundle; Bundle.open(Path({str(GOLDEN)!r}))"
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def url(bin_folder, environment, python, tmp_path_factory) -> Iterator[str]:
    """`trainserve serve` with the golden bundle as champion."""
    saved = python(
        "from pathlib import Path; from serving import store; "
        f"store.promote(store.save(Path({str(GOLDEN)!r})), reason='test')"
    )
    assert saved.returncode == 0, saved.stderr
    port = free_port()
    command = [bin_folder / "trainserve", "serve", "--port", str(port)]
    log = tmp_path_factory.mktemp("log") / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=log.parent, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=START_S)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(log.read_text())


def test_the_service_answers_as_the_golden_samples_promise(url):
    classes = json.loads((GOLDEN / "card.json").read_text())["classes"]
    golden = json.loads((GOLDEN / "golden/golden.json").read_text())
    for sample in golden["samples"]:
        picture = base64.b64encode((GOLDEN / "golden" / sample["file"]).read_bytes()).decode()
        asked = httpx.post(f"{url}/predict", json={"image": picture}, trust_env=False, timeout=START_S)
        answer = asked.raise_for_status().json()
        promised = max(sample["probabilities"])
        assert answer["label"] == classes[sample["probabilities"].index(promised)]
        assert answer["probability"] == pytest.approx(promised, abs=golden["tolerance"])
