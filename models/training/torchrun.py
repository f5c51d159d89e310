"""A process of a training by several: `torchrun --nproc-per-node 2 -m models.training.torchrun RUN_FOLDER`.

The run folder says what to train and on which pictures; the home folder around it must be on a disk that all processes
share. `trainserve run --train.devices 2` starts this by itself; on several nodes, torchrun's own variables
(PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR ...) are obeyed, and on each further node the command above is given.

Rank 0 says on standard output, one JSON object per line, how far training is; every rank says why it ended.
"""

import json
import os
import signal
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data import whole
from data.errors import DataRefused, InputError, RunFailed
from data.prepare import prepare
from models.records import EpochRecord
from models.run import RunFolder, read_fingerprint
from models.training.distributed import joined
from models.training.learn import learn
from models.training.pulse import ProgressUpdate, Stopped

FOLLOW = "--follow"  # standard input is a pipe: "stop" asks for a stop, its end says that the parent is gone


def main() -> None:
    folder, asked = RunFolder(Path(sys.argv[1]).resolve()), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    if FOLLOW in sys.argv:
        threading.Thread(target=follow, args=(asked,), daemon=True).start()
    status = 0
    try:
        train(folder, asked)
    except Stopped as stopped:
        say("stopped", str(stopped))
    except (InputError, RunFailed) as error:
        say("wrong" if isinstance(error, InputError) else "failed", str(error))
        status = 1
    except Exception as error:  # noqa: BLE001 - the parent makes a sentence of it, the log keeps the trace
        traceback.print_exc()
        say("broken", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        status = 1
    sys.stderr.flush()
    os._exit(status)  # without waiting for ranks that wait for this one


def train(folder: RunFolder, asked: threading.Event) -> None:
    experiment = folder.experiment()
    dataset = prepare(experiment.pictures, folder.path.parents[1])
    if dataset.images.snapshot.fingerprint != read_fingerprint(folder):
        raise DataRefused(
            f"the pictures of {experiment.dataset.source} are not those that run {folder.run_id} was started with; "
            "put them back, or start another run"
        )

    def epoch(record: EpochRecord) -> None:
        say("epoch", record.model_dump())

    def progress(update: ProgressUpdate) -> None:
        say("progress", asdict(update))

    def choice(sentence: str) -> None:
        say("choice", sentence)

    def trouble(sentence: str) -> None:
        say("trouble", sentence)

    with joined() as ranks:
        if not ranks.writes:
            learn(experiment, dataset, folder, stop=asked.is_set, ranks=ranks)
            return
        with whole.locked(folder.path / "training"):  # a killed run's processes may take a moment to go
            learn(
                experiment,
                dataset,
                folder,
                on_epoch=epoch,
                on_progress=progress,
                on_choice=choice,
                on_trouble=trouble,
                stop=asked.is_set,
                ranks=ranks,
            )


def say(what: str, told: Any) -> None:
    """One write of one line, so that the ranks' lines do not mix."""
    os.write(sys.stdout.fileno(), (json.dumps({what: told}) + "\n").encode())


def follow(asked: threading.Event) -> None:
    while line := sys.stdin.buffer.readline():
        if line == b"stop\n":
            asked.set()
    os._exit(1)


if __name__ == "__main__":
    main()
