"""What a process that trains for another one does, whatever it trains: the child's side of `children.py`.

It says on standard output, one JSON object per line, how far it is and why it ended; it stops when it reads "stop" on
standard input, and leaves at once when that ends: the parent is gone then.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from data.errors import DataRefused, InputError, RunFailed
from data.prepare import Dataset, prepare
from models.config import Experiment
from models.run import RunFolder, read_fingerprint
from models.training.told import FOLLOW, Stopped


def run(train: Callable[[threading.Event], None]) -> NoReturn:
    """`train(asked)`, which stops once that is set; then the process ends."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    if FOLLOW in sys.argv:
        threading.Thread(target=follow, args=(asked,), daemon=True).start()
    status = 0
    try:
        train(asked)
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


def say(what: str, told: Any) -> None:
    """One write of one line, so that the lines of several do not mix."""
    os.write(sys.stdout.fileno(), (json.dumps({what: told}) + "\n").encode())


def follow(asked: threading.Event) -> None:
    while line := sys.stdin.buffer.readline():
        if line == b"stop\n":
            asked.set()
    os._exit(1)


def opened(folder: RunFolder) -> tuple[Experiment, Dataset]:
    """What the folder says to train, and the pictures, from the home folder two levels above. Raises `DataRefused`
    where these are others by now."""
    experiment = folder.experiment()
    dataset = prepare(experiment.pictures, folder.path.parents[1], again=True)
    if dataset.images.snapshot.fingerprint != read_fingerprint(folder):
        raise DataRefused(
            f"the pictures of {experiment.dataset.source} are not those that run {folder.run_id} was started with; "
            "put them back, or start another run"
        )
    return experiment, dataset
