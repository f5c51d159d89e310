"""One fold of a cross-validation, by a process of its own: `python -m models.training.fold RUN_FOLDER FOLD`.

The run folder says of what; folds are counted from 0. Wherever it is started, and however often, the fold is the same.
"""

import sys
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path

from data import whole
from models.run import RunFolder
from models.training import child
from models.training.allocation import keep_freed_memory
from models.training.child import say
from models.training.cross_validate import one_fold
from models.training.folds import FOLDER, ended_folds, fold_folder, keep_folds
from models.training.told import ProgressUpdate


def main() -> None:
    keep_freed_memory()
    child.run(partial(train, RunFolder(Path(sys.argv[1]).resolve()), int(sys.argv[2])))


def train(folder: RunFolder, fold: int, asked: threading.Event) -> None:
    """Says `fold` once it has ended, also where another process has trained it meanwhile."""

    def progress(update: ProgressUpdate) -> None:
        say("progress", asdict(update))

    def trouble(sentence: str) -> None:
        say("trouble", sentence)

    with whole.locked(folder.path / FOLDER / str(fold)):  # one that lost its parent may take a moment to go
        done = {result.fold: result for result in ended_folds(folder)}
        if fold not in done:
            experiment, dataset = child.opened(folder)
            done[fold], answers = one_fold(
                experiment,
                dataset,
                fold,
                folder=fold_folder(folder, fold),
                on_progress=progress,
                on_trouble=trouble,
                stop=asked.is_set,
            )
            keep_folds(folder, [done[fold]], {fold: answers}, trouble)
    say("fold", done[fold].model_dump())


if __name__ == "__main__":
    main()
