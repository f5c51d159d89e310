"""One training by a process of its own, as `launch.train` does it: `python -m models.training.alone RUN_FOLDER`.

The run folder says of what. It is how a trial of a sweep is trained beside others.
"""

import sys
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path

from data import whole
from models.run import RunFolder
from models.training import child, launch
from models.training.allocation import keep_freed_memory
from models.training.child import say
from models.training.told import ProgressUpdate


def main() -> None:
    keep_freed_memory()
    child.run(partial(train, RunFolder(Path(sys.argv[1]).resolve())))


def train(folder: RunFolder, asked: threading.Event) -> None:
    """What it leaves is in the folder."""

    def progress(update: ProgressUpdate) -> None:
        say("progress", asdict(update))

    def trouble(sentence: str) -> None:
        say("trouble", sentence)

    with whole.locked(folder.path / "alone"):  # one that lost its parent may take a moment to go
        if not folder.learned:
            experiment, dataset = child.opened(folder)
            launch.train(experiment, dataset, folder, on_progress=progress, on_trouble=trouble, stop=asked.is_set)


if __name__ == "__main__":
    main()
