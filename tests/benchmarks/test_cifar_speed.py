import importlib.util
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks.pictures import folder_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes, 20 pictures of each in train and in test."""
    folder = tmp_path_factory.mktemp("pictures")
    folder_of(folder, per_class=20)
    packed = folder / "cifar10.tar.gz"
    with tarfile.open(packed, "w:gz") as file:
        for part in ("train", "test"):
            file.add(folder / part, arcname=part)
    return packed


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--as-records"]], ids=["held out", "as records"])
def test_the_benchmark_of_cifar_runs_on_a_cpu(archive: Path, tmp_path: Path, flags: list[str]):
    small = ["--epochs", "1", "--batch-size", "60", "--width", "8", "--runs", "1", "--fresh", "1", "--device", "cpu"]
    command = [sys.executable, "-m", "benchmarks.cifar_speed", "--data", str(archive), *small, *flags]
    subprocess.run([*command, "--results", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (file,) = tmp_path.glob("cifar-speed-cpu*.json")
    figures = json.loads(file.read_text())
    assert (figures["trained_on"], figures["tested_on"]) == (200 if flags else 180, 200)
    assert figures["experiment"]["name"] == "cifar10-speed"
    assert figures["runs"][0]["loop_s"] > figures["runs"][0]["training_s"] > 0
    assert 0 <= figures["runs"][0]["test_accuracy"] <= 1
    assert "utilisation" not in figures["runs"][0]  # of a CPU no peak is known
    assert figures["command_s"]["mean"] > figures["runs"][0]["loop_s"]


@pytest.mark.slow
def test_the_benchmark_of_cifar_needs_neither_engine():
    assert importlib.util.find_spec("benchmarks.cifar_speed") is not None
    code = (
        "import sys, benchmarks.cifar_speed\n"
        "print([name for name in ('prefect', 'bentoml', 'sklearn', 'tensorboard', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
