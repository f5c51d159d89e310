"""Wrong labels planted among pictures, and how many of them are found by answers out of folds.

    python -m benchmarks.planted_labels --data ../shared/data/flowers.tar.gz [--share 0.01] [--folds 3] [--epochs 15] \
        [--size 64] [--seed 0] [--home FOLDER]

Of the pictures outside the test part a share gets another label, drawn uniformly; recall and precision are over these,
with Wilson's 95 % intervals. Precision counts as a miss what was wrong in the source already, so it is a lower bound;
`--share 0` tells how many are found where none is planted.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import commit, processor, version
from data.prepare import Dataset, prepare
from data.spec import DatasetSpec
from models.config import CrossvalConfig, Experiment, TrainConfig
from models.evaluation.labels import of_folds
from models.evaluation.metrics import wilson
from models.run import RunFolder
from models.training.cross_validate import cross_validate


def planted(dataset: Dataset, *, share: float, seed: int) -> tuple[Dataset, np.ndarray]:
    """The same pictures, of which the rows told have another label; none of them is a test picture."""
    random, development = np.random.default_rng(seed), dataset.split.development
    rows = np.sort(random.choice(development, round(share * len(development)), replace=False))
    images, snapshot = dataset.images, dataset.images.snapshot
    labels = snapshot.labels.copy()
    slots, num = images.rows[rows], len(snapshot.classes)
    labels[slots] = (labels[slots] + random.integers(1, num, len(rows))) % num
    return replace(dataset, images=replace(images, snapshot=replace(snapshot, labels=labels))), rows


def figures(found: tuple[int, ...], wrong: np.ndarray) -> dict[str, Any]:
    """`found`: rows, the least credible first."""
    hits = np.isin(found, wrong)
    first = hits[: len(wrong)]
    return {
        "planted": len(wrong),
        "found": len(found),
        "hits": int(hits.sum()),
        "recall": of(int(hits.sum()), len(wrong)),
        "precision": of(int(hits.sum()), len(found)),
        "precision_of_as_many_as_planted": of(int(first.sum()), len(first)),
    }


def of(part: int, whole: int) -> list[float] | None:
    """Share and its interval."""
    if not whole:
        return None
    interval = wilson(part, whole)
    return [round(share, 3) for share in (part / whole, interval.low, interval.high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="any source")
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="where decoded pictures are kept; a temporary one unless given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        experiment = Experiment(
            dataset=DatasetSpec(source=given.data, size=given.size),
            train=TrainConfig(epochs=given.epochs, seed=given.seed),
            crossval=CrossvalConfig(folds=given.folds),
        )
        pictures = prepare(experiment.pictures, given.home or Path(temporary))
        dataset, wrong = planted(pictures, share=given.share, seed=given.seed)
        run, began = RunFolder(Path(temporary) / "run"), time.monotonic()
        crossval = cross_validate(experiment, dataset, run, on_fold=lambda fold: print(fold, flush=True))
        trained = time.monotonic()
        found = of_folds(run, dataset)
        told = {
            "set": dataset.report.name,
            "pictures": len(dataset.split.development),
            "accuracy": round(crossval.mean, 4),
            **figures(found.rows, wrong),
            "training_s": round(trained - began, 1),
            "search_s": round(time.monotonic() - trained, 1),
            "settings": {name: value for name, value in vars(given).items() if name not in ("data", "home")},
            "cleanlab": version("cleanlab"),
            "machine": processor(),
            "commit": commit(),
        }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
