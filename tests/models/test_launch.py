"""Training by torchrun's processes, as `train.devices 2` asks for: killed, stopped, failed, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.ports import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core"),
]

ROOT = Path(__file__).parents[2]
LONG_S = 300.0  # within which anything happens that will happen: this machine may be busy
CHILD = """
import json, os, signal, sys, threading
from pathlib import Path
from data.errors import InputError
from data.prepare import prepare
from data.spec import DatasetSpec
from models.config import Experiment, TrainConfig
from models.run import open_run
from models.training import launch
from models.training.pulse import Stopped
from models.zoo.config import CNNConfig

def train(home, ends):
    chosen = Experiment(
        dataset=DatasetSpec(source=str(home.parent / "lamps"), size=12),
        model=CNNConfig(width=8, dropout=0.1),
        train=TrainConfig(
            epochs=20, patience=19, batch_size=4, devices=devices, checkpoint_every=7, precision="float32"
        ),
    )
    dataset = prepare(chosen.dataset, home)
    folder = open_run(home, chosen, dataset.images.snapshot.fingerprint)
    if ends == "refused":
        (folder.path / "fingerprint").write_text("f" * 64)
    print("folder", folder.path, flush=True)
    asked = threading.Event()

    def epoch(record):
        if ends == "killed" and record.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if ends == "stopped" and record.epoch == 4:
            asked.set()

    try:
        launch.train(
            chosen,
            dataset,
            folder,
            stop=asked.is_set,
            on_epoch=epoch,
            on_choice=lambda said: print("choice", said, flush=True),
        )
        print("done", flush=True)
    except (Stopped, InputError) as end:
        print(type(end).__name__, end, flush=True)

devices = int(sys.argv[1])
for home, ends in json.loads(sys.argv[2]):
    train(Path(home), ends)
"""


def command(*trainings: tuple[Path, str | None], devices: int = 2) -> list[str]:
    """Trains in one home after the other, each to its end or to the one that is told."""
    return [sys.executable, "-c", CHILD, str(devices), json.dumps([(str(home), ends) for home, ends in trainings])]


def environment(*, gpus: str = "", **variables: str) -> Mapping[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": gpus, **variables}


def trained(*trainings: tuple[Path, str | None], status: int = 0, **given: str) -> tuple[list[Path], list[str]]:
    """The run folders, and how each training says that it ended."""
    done = subprocess.run(
        command(*trainings), stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(**given), timeout=2 * LONG_S
    )
    assert done.returncode == status
    said = [line.partition(" ") for line in done.stdout.splitlines()]
    folders = [Path(rest) for word, _, rest in said if word == "folder"]
    return folders, [f"{word} {rest}".strip() for word, _, rest in said if word not in ("folder", "choice")]


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
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
    until = time.monotonic() + LONG_S
    while ranks_of(folder) and time.monotonic() < until:
        time.sleep(0.1)
    return not ranks_of(folder)


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(ROOT / "tests" / "flows"))
    from lamps import draw

    place = tmp_path_factory.mktemp("launch")
    draw(place / "lamps", per_class=16)
    return place


@pytest.fixture(scope="module")
def undisturbed_and_killed(place: Path) -> list[Path]:
    """The folders of the same training, once whole, and once with the process killed that had started the others."""
    folders, said = trained((place / "undisturbed", None), (place / "disturbed", "killed"), status=-signal.SIGKILL)
    assert said == ["done"]
    return folders


def test_killed_stopped_and_gone_on_with_gives_the_bits_of_an_undisturbed_training(
    place: Path, undisturbed_and_killed: list[Path]
):
    undisturbed, folder = undisturbed_and_killed
    assert gone(folder), "processes outlived the one that started them"
    assert not (folder / "weights.safetensors").exists()
    again, (stopped, done) = trained((place / "disturbed", "stopped"), (place / "disturbed", None))
    assert again == [folder, folder]
    assert stopped.startswith("Stopped after step ")
    assert done == "done"
    assert gone(folder)
    assert weights(folder) == weights(undisturbed)


def test_two_nodes_that_meet_by_torchruns_own_variables_train_as_two_processes_of_one_node(
    place: Path, undisturbed_and_killed: list[Path]
):
    """Both on this machine, with one process each; the second is started as the first one says."""
    meet = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(free_port())}
    first = subprocess.Popen(
        command((place / "apart", None), devices=1),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(**meet, PET_NODE_RANK="0", PYTHONUNBUFFERED="1"),
    )
    folder = Path(read_until(first, "folder"))
    said = read_until(first, "choice").partition("PET_NODE_RANK: torchrun ")[2].split()
    assert said == ["--nproc-per-node", "1", "-m", "models.training.torchrun", str(folder)]
    second = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *said], cwd=ROOT, env=environment(**meet, PET_NODE_RANK="1")
    )
    read_until(first, "done")
    assert first.wait(LONG_S) == second.wait(LONG_S) == 0
    assert json.loads((folder / "fit.json").read_text())["device"].startswith("2 x cpu")
    assert weights(folder) == weights(undisturbed_and_killed[0])


@pytest.mark.gpu
def test_two_gpus_train_together(place: Path):
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two GPUs are here")
    (folder,), _ = trained((place / "gpus", None), gpus="0,1")
    assert json.loads((folder / "fit.json").read_text())["device"].startswith("2 x ")


def test_a_process_that_refuses_is_one_sentence(place: Path):
    _, (said,) = trained((place / "other pictures", "refused"))
    assert said.startswith("InputError ")
    assert "are not those that run" in said
