"""Training by torchrun's processes, as `train.devices 2` asks for: killed, stopped, failed, and gone on with."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core"),
]

ROOT = Path(__file__).parents[2]
CHILD = """
import signal, sys, threading
from pathlib import Path
sys.path.insert(0, {flows!r})
from lamps import draw
from data.errors import InputError
from data.prepare import prepare
from data.spec import DatasetSpec
from models.config import Experiment, TrainConfig
from models.run import open_run
from models.training import launch
from models.training.pulse import Stopped
from models.zoo.config import CNNConfig

home, asked = Path(sys.argv[1]), threading.Event()
chosen = Experiment(
    dataset=DatasetSpec(source=str(home.parent / "lamps"), size=12),
    model=CNNConfig(width=8, dropout=0.1),
    train=TrainConfig(
        epochs={epochs}, patience={epochs} - 1, batch_size=4, devices={devices}, checkpoint_every=7, precision="float32"
    ),
)
dataset = prepare(chosen.dataset, home)
folder = open_run(home, chosen, dataset.images.snapshot.fingerprint)
signal.signal(signal.SIGTERM, lambda *_: asked.set())
if len(sys.argv) > 2:
    (folder.path / "fingerprint").write_text("f" * 64)
print(folder.path, flush=True)
try:
    launch.train(
        chosen,
        dataset,
        folder,
        stop=asked.is_set,
        on_epoch=lambda r: print("epoch", r.epoch, flush=True),
        on_choice=lambda said: print("choice", said, flush=True),
    )
    print("done", flush=True)
except (Stopped, InputError) as end:
    print(type(end).__name__, end, flush=True)
"""


def started(
    home: Path,
    *more: str,
    gpus: str = "",
    devices: int = 2,
    epochs: int = 30,
    variables: Mapping[str, str] = {},
) -> tuple[subprocess.Popen[str], Path]:
    source = home.parent / "lamps"
    if not source.exists():
        sys.path.insert(0, str(ROOT / "tests" / "flows"))
        from lamps import draw

        draw(source)
    process = subprocess.Popen(
        [sys.executable, "-c", child(devices=devices, epochs=epochs), str(home), *more],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": gpus, **variables},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def child(*, devices: int, epochs: int) -> str:
    return CHILD.format(flows=str(ROOT / "tests" / "flows"), devices=devices, epochs=epochs)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.strip()
    raise AssertionError(f"{word} was never said")


def ranks_of(folder: Path) -> list[int]:
    """Processes that train in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"models.training.torchrun" in words and str(folder).encode() in words:
            found.append(int(entry.name))
    return found


def gone(folder: Path) -> bool:
    until = time.monotonic() + 60
    while ranks_of(folder) and time.monotonic() < until:
        time.sleep(0.1)
    return not ranks_of(folder)


def test_killed_stopped_and_gone_on_with_gives_the_bits_of_an_undisturbed_training(tmp_path: Path):
    process, undisturbed = started(tmp_path / "undisturbed")
    read_until(process, "done")
    assert process.wait(60) == 0

    process, folder = started(tmp_path / "disturbed")
    read_until(process, "epoch 3")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert gone(folder), "processes outlived the one that started them"
    assert not (folder / "weights.safetensors").exists()

    process, again = started(tmp_path / "disturbed")
    assert again == folder
    read_until(process, "epoch 8")
    process.send_signal(signal.SIGTERM)
    assert read_until(process, "Stopped").startswith("Stopped after step ")
    assert process.wait(60) == 0
    assert gone(folder)

    process, again = started(tmp_path / "disturbed")
    assert again == folder
    read_until(process, "done")
    assert process.wait(60) == 0
    weights = [(path / "weights.safetensors").read_bytes() for path in (folder, undisturbed)]
    assert weights[0] == weights[1]


def test_two_nodes_that_meet_by_torchruns_own_variables_train_as_two_processes_of_one_node(tmp_path: Path):
    """Both on this machine, with one process each; the second is started as the first one says."""
    process, together = started(tmp_path / "together", epochs=3)
    read_until(process, "done")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meet = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    first, folder = started(
        tmp_path / "apart", devices=1, epochs=3, variables={**meet, "PET_NODE_RANK": "0", "PYTHONUNBUFFERED": "1"}
    )
    said = read_until(first, "choice").partition("PET_NODE_RANK: torchrun ")[2].split()
    assert said == ["--nproc-per-node", "1", "-m", "models.training.torchrun", str(folder)]
    hidden = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    second = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *said],
        cwd=ROOT,
        env={**os.environ, **hidden, **meet, "PET_NODE_RANK": "1"},
    )
    read_until(first, "done")
    assert first.wait(60) == second.wait(60) == 0
    assert json.loads((folder / "fit.json").read_text())["device"].startswith("2 x cpu")
    weights = [(path / "weights.safetensors").read_bytes() for path in (folder, together)]
    assert weights[0] == weights[1]


@pytest.mark.gpu
def test_two_gpus_train_together(tmp_path: Path):
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two GPUs are here")
    process, folder = started(tmp_path / "home", gpus="0,1")
    read_until(process, "done")
    assert process.wait(60) == 0
    assert json.loads((folder / "fit.json").read_text())["device"].startswith("2 x ")


def test_a_process_that_refuses_is_one_sentence(tmp_path: Path):
    process, _ = started(tmp_path / "home", "other pictures")
    said = read_until(process, "InputError")
    assert "are not those that run" in said
    assert process.wait(60) == 0
