"""A process of a training by several: `torchrun --nproc-per-node 2 -m models.training.torchrun RUN_FOLDER`.

The run folder says what to train and on which pictures; the home folder around it must be on a disk that all processes
share. `trainserve run --train.devices 2` starts this by itself; on several nodes, torchrun's own variables
(PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR ...) are obeyed, and on each further node the command above is given.

Rank 0 says on standard output, one JSON object per line, how far training is; every rank says why it ended.
"""

import sys
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path

from data import whole
from models.records import EpochRecord
from models.run import RunFolder
from models.training import child
from models.training.child import say
from models.training.distributed import joined
from models.training.learn import learn
from models.training.told import ProgressUpdate


def main() -> None:
    child.run(partial(train, RunFolder(Path(sys.argv[1]).resolve())))


def train(folder: RunFolder, asked: threading.Event) -> None:
    experiment, dataset = child.opened(folder)

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


if __name__ == "__main__":
    main()
