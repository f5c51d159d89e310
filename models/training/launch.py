"""Training where the experiment wants it: in this process, or by several that torchrun starts."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from data.errors import InputError, RunFailed
from data.prepare import Dataset
from models.config import Experiment
from models.device import require_devices
from models.records import EpochRecord, FitSummary
from models.run import RunFolder
from models.training import learn
from models.training.fit import ignore
from models.training.nodes import require_number, several_nodes
from models.training.pulse import ProgressUpdate, Stopped, never
from models.training.torchrun import FOLLOW

ROOT = Path(__file__).parents[2]
POLL_S = 0.2  # how soon a request to stop is passed on


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
    heard = Heard(on_epoch, on_progress, on_choice, on_trouble)
    if nodes:
        on_choice(f"the other nodes are waited for; on each, with its own PET_NODE_RANK: {further(folder, devices)}")
    log = folder.path / "torchrun.log"
    with log.open("ab") as errors, started(folder, devices, errors) as process:
        for line in lines_of(process, stop):
            heard(line, errors)
    if not folder.learned:
        heard.judge(process.returncode, log)
    return folder.fit()


class Heard:
    """What the processes say, passed on; why they ended is kept until all have."""

    def __init__(
        self,
        on_epoch: Callable[[EpochRecord], None],
        on_progress: Callable[[ProgressUpdate], None],
        on_choice: Callable[[str], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._on_epoch, self._on_progress = on_epoch, on_progress
        self._on_choice, self._on_trouble = on_choice, on_trouble
        self._ends: dict[str, str] = {}

    def __call__(self, line: bytes, log: Any) -> None:
        try:
            ((what, told),) = json.loads(line).items()
        except (ValueError, AttributeError):
            log.write(line + b"\n")  # a library that prints
            return
        match what:
            case "epoch":
                self._on_epoch(EpochRecord(**told))
            case "progress":
                self._on_progress(ProgressUpdate(**told))
            case "choice":
                self._on_choice(told)
            case "trouble":
                self._on_trouble(told)
            case _:
                self._ends.setdefault(what, told)

    def judge(self, status: int, log: Path) -> NoReturn:
        """Why there is no trained network. One rank's own reason comes before the complaints of those that lost it."""
        if "wrong" in self._ends:
            raise InputError(self._ends["wrong"])
        if "failed" in self._ends:
            raise RunFailed(self._ends["failed"])
        if "stopped" in self._ends:
            raise Stopped(self._ends["stopped"])
        why = self._ends.get("broken", f"torchrun ended with status {status}")
        raise RunFailed(
            f"one of the training processes failed ({why}); the log is {log}, and the same command "
            "goes on from the last checkpoint"
        )


def further(folder: RunFolder, devices: int) -> str:
    """What is typed on a node that is not the first."""
    return f"torchrun --nproc-per-node {devices} -m models.training.torchrun {folder.path}"


@contextmanager
def started(folder: RunFolder, devices: int, log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """torchrun in a session of its own, so that Ctrl-C reaches it through us; none of it outlives this process."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *([] if several_nodes() else ["--standalone", "--local-addr", "127.0.0.1"]),
    ]
    command += ["--nproc-per-node", str(devices), "-m", "models.training.torchrun", str(folder.path), FOLLOW]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        env=environment(devices),
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        with suppress(OSError):
            process.stdin.close()  # they leave when they notice
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(devices: int) -> dict[str, str]:
    """Our modules and nobody else's of the same names, and the cores shared out."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    threads = str(max(1, (os.cpu_count() or 1) // devices))
    return {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}


def lines_of(process: subprocess.Popen[bytes], stop: Callable[[], bool]) -> Iterator[bytes]:
    """Until all processes have closed their end; meanwhile a request to stop is passed on."""
    assert process.stdin is not None
    assert process.stdout is not None
    asked, rest = False, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not asked and stop():
                asked = True
                with suppress(OSError):
                    process.stdin.write(b"stop\n")
                    process.stdin.flush()
            if not selector.select(POLL_S):
                continue
            some = os.read(process.stdout.fileno(), 65_536)
            if not some:
                return
            *lines, rest = (rest + some).split(b"\n")
            yield from lines
