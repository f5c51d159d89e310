"""Training where the experiment wants it: in this process, or by several that torchrun starts."""

import os
import sys
from collections.abc import Callable
from typing import Any

from data.prepare import Dataset
from models.config import Experiment
from models.device import require_devices
from models.records import EpochRecord, FitSummary
from models.run import RunFolder
from models.training import learn
from models.training.children import Heard, environment, lines_of, started
from models.training.fit import ignore
from models.training.nodes import require_number, several_nodes
from models.training.pulse import never
from models.training.told import FOLLOW, ProgressUpdate


def train(
    experiment: Experiment,
    dataset: Dataset,
    folder: RunFolder,
    *,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[ProgressUpdate], None] = ignore,
    on_choice: Callable[[str], None] = ignore,
    on_trouble: Callable[[str], None] = ignore,
    stop: Callable[[], bool] = never,
) -> FitSummary:
    """As `learn`, on as many devices as `train.devices` says. Raises the same, and `RunFailed` for a lost process."""
    devices, nodes = experiment.train.devices, several_nodes()
    require_number(experiment.train)
    if not isinstance(devices, int) or (devices == 1 and not nodes):
        return learn.learn(
            experiment,
            dataset,
            folder,
            on_epoch=on_epoch,
            on_progress=on_progress,
            on_choice=on_choice,
            on_trouble=on_trouble,
            stop=stop,
        )
    if folder.learned:
        return folder.fit()
    require_devices(devices)
    folder.write_experiment(experiment)
    if nodes:
        on_choice(f"the other nodes are waited for; on each, with its own PET_NODE_RANK: {further(folder, devices)}")
    log, shared = folder.path / "torchrun.log", environment(threads=max(1, (os.cpu_count() or 1) // devices))
    with log.open("ab") as errors, started(command(folder, devices), shared, errors) as process:
        heard = Heard(errors, listeners(on_epoch, on_progress, on_choice, on_trouble))
        for line in lines_of(process, stop):
            heard(line)
    if not folder.learned:
        heard.judge(process.returncode, "one of the training processes", log)
    return folder.fit()


def listeners(
    on_epoch: Callable[[EpochRecord], None],
    on_progress: Callable[[ProgressUpdate], None],
    on_choice: Callable[[str], None],
    on_trouble: Callable[[str], None],
) -> dict[str, Callable[[Any], object]]:
    """Who hears what, by the word before it."""
    return {
        "epoch": lambda told: on_epoch(EpochRecord(**told)),
        "progress": lambda told: on_progress(ProgressUpdate(**told)),
        "choice": on_choice,
        "trouble": on_trouble,
    }


def further(folder: RunFolder, devices: int) -> str:
    """What is typed on a node that is not the first."""
    return f"torchrun --nproc-per-node {devices} -m models.training.torchrun {folder.path}"


def command(folder: RunFolder, devices: int) -> list[str]:
    """torchrun, with as many processes."""
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *([] if several_nodes() else ["--standalone", "--local-addr", "127.0.0.1"]),
        *("--nproc-per-node", str(devices), "-m", "models.training.torchrun", str(folder.path), FOLLOW),
    ]
