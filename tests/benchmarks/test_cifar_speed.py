import importlib.util
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import machine
from benchmarks.cifar import RECORD, opened, original, price
from benchmarks.cifar_speed import measured, name_of, parsed
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


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """As many pictures, noise, as the binary version has them."""
    random = np.random.default_rng(0)
    for name, num in (("data_batch_1.bin", 150), ("data_batch_2.bin", 50), ("test_batch.bin", 200)):
        content = random.integers(0, 256, (num, RECORD), dtype=np.uint8)
        content[:, 0] = np.arange(num) % 10
        content.tofile(tmp_path / name)
    return tmp_path


def test_the_binary_version_is_labels_and_planes(binary: Path):
    found = original(binary)
    content = (binary / "data_batch_1.bin").read_bytes()[: 2 * RECORD][RECORD:]  # of the second picture
    assert found.pixels.shape == (400, 32, 32, 3)
    assert found.labels[1] == content[0] == 1
    assert found.pixels[1, 5, 7].tolist() == [content[1 + plane * 1024 + 5 * 32 + 7] for plane in range(3)]
    assert (len(found.all), len(found.test)) == (200, 200)
    assert found.test.tolist() == list(range(200, 400))
    assert len(original(binary, train_on=70).all) == 70


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickled", bytes([10]) + bytes(RECORD - 1)])
def test_another_file_is_not_taken_for_the_binary_version(binary: Path, content: bytes):
    (binary / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(SystemExit, match=r"data_batch_2\.bin is no file of CIFAR-10's binary version"):
        original(binary)


def test_a_folder_without_the_binary_version_is_refused(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"lacks data_batch_1\.bin or test_batch\.bin"):
        original(tmp_path)


def test_the_time_to_the_equal_of_94_percent_is_that_of_networks_worth_94_percent_on_the_original_pixels():
    def runs(*accuracies: float) -> list[dict[str, float]]:
        return [{"test_accuracy": accuracy, "loop_and_test_s": 1.25} for accuracy in accuracies]

    found = price(runs(0.92, 0.93), runs(0.94, 0.95), goal=0.94)
    assert found["costs"] == pytest.approx(0.02)
    assert found["equal_of_goal"] == pytest.approx(0.92)
    assert found["standard_error"] == pytest.approx(0.005 * 2**0.5)
    assert found["seconds_to_equal"] == 1.25
    assert price(runs(0.92, 0.93), runs(0.93, 0.94), goal=0.94)["seconds_to_equal"] is None


def test_decoded_pictures_are_kept_under_whatever_name(archive: Path, tmp_path: Path):
    first = opened(archive, tmp_path / "kept")
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    again = opened(tmp_path / "not there.tar.gz", tmp_path / "kept")
    assert np.array_equal(first.pixels, again.pixels)


def test_a_machine_without_git_does_not_know_the_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() == "unknown"


@pytest.mark.slow
def test_figures_are_there_after_each_run_and_without_a_warm_up(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small = ["--epochs", "1", "--batch-size", "60", "--width", "8", "--runs", "2", "--fresh", "0", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["", "--data", str(archive), *small, "--no-warm-up"])
    written: list[dict[str, Any]] = []
    options = parsed()
    measured(options, tmp_path / "kept", written.append)
    assert [len(figures["runs"]) for figures in written] == [1, 2]
    assert written[0]["first"] is None
    assert written[1]["of_runs"]["loop_s"]["n"] == 2
    assert name_of(options) == "cpu-cifar10-speed-no-warm-up-epochs-1-batch_size-60-width-8"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--as-records"]], ids=["held out", "as records"])
def test_the_benchmark_of_cifar_runs_on_a_cpu(archive: Path, binary: Path, tmp_path: Path, flags: list[str]):
    small = ["--epochs", "1", "--batch-size", "60", "--width", "8", "--runs", "1", "--fresh", "1", "--device", "cpu",
             "--original", str(binary)]  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.cifar_speed", "--data", str(archive), *small, *flags]
    subprocess.run([*command, "--results", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (file,) = tmp_path.glob("cifar-speed-cpu*.json")
    figures = json.loads(file.read_text())
    assert (figures["trained_on"], figures["tested_on"]) == (200 if flags else 180, 200)
    assert figures["experiment"]["name"] == "cifar10-speed"
    assert figures["runs"][0]["loop_s"] > figures["runs"][0]["training_s"] > 0
    assert 0 <= figures["runs"][0]["test_accuracy"] <= 1
    assert figures["jpeg"]["original"]["test_accuracy"]["n"] == 1
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
