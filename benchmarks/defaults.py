"""What each default brings: training with one setting changed, over several seeds, on pictures no default may see.

    python -m benchmarks.defaults --data ../shared/data --case flowers [--setting no-ema] [--seeds 3] [--epochs 20]

The test rows are never touched. Seed s holds out fold s of five of the development rows, trains the product's own `fit`
on the others, and is judged by the last epoch, so that no epoch is chosen on the rows it is judged by. Every training
is one line of benchmarks/results/defaults-<case>.jsonl; what is there already, of the same commit, is not run again, so
that two of these commands may share the work of one table. `python -m benchmarks.render_defaults` puts them into
docs/defaults.md.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import machine
from data.loader import Pictures
from data.prepare import Dataset, prepare
from data.spec import DatasetSpec
from data.split import folds
from models.config import Experiment
from models.training.learn import learner_for, run_fit

RESULTS = Path(__file__).parent / "results"
FOLDS = 5
Changes = dict[str, Any]  # dotted name of a setting -> its value

EVERYWHERE: dict[str, Changes] = {
    "default": {},
    "no-ema": {"train.ema": None},
    "adamw": {"optimizer.kind": "adamw"},
    "sgd": {"optimizer.kind": "sgd"},
    "no-smoothing": {"train.label_smoothing": 0.0},
    "rate-half": {"optimizer.kind": "muon", "optimizer.lr": 0.001},
    "rate-double": {"optimizer.kind": "muon", "optimizer.lr": 0.004},
    "one-cycle": {"schedule.kind": "one-cycle"},
    "width-24": {"model.kind": "cnn", "model.width": 24},
    "width-48": {"model.kind": "cnn", "model.width": 48},
    "depth-2": {"model.kind": "cnn", "model.depth": 2},
    "erase": {"augment.erase": 0.25},
    "conv_vit": {"model.kind": "conv_vit"},
    "conv_vit-rate-double": {"model.kind": "conv_vit", "optimizer.kind": "muon", "optimizer.lr": 0.004},
}
LARGER: dict[str, Changes] = {
    "no-changes": {"augment.crop": 0, "augment.zoom": 0.0, "augment.rotate": 0.0, "augment.color": 0.0,
                   "augment.flip": False, "augment.mixup": 0.0, "augment.cutmix": 0.0, "augment.policy": "none"},
    "mean-pooling": {"model.kind": "cnn", "model.pool": "mean"},
    "mixing": {"augment.mixup": 0.4, "augment.cutmix": 1.0},
}  # fmt: skip
DIGITS: dict[str, Changes] = {
    "crop": {"augment.crop": 1},
    "mixing": LARGER["mixing"],
    "no-warm-up": {"schedule.kind": "cosine", "schedule.warmup": 0.0},
    "dropout": {"model.kind": "cnn", "model.dropout": 0.2},
}
CIFAR: dict[str, Changes] = {
    "no-flip": {"augment.flip": False},
    "trivial-augment": {"augment.policy": "trivial"},
}
FLOWERS: dict[str, Changes] = {
    "no-growing": {"augment.grow": 0.0},
    "no-policy": {"augment.policy": "none"},  # but turned and coloured
    "even-blocks": {"model.kind": "cnn", "model.blocks": "even"},
    "mirrored-answers": {"answer.mirror": True},
    "side-64": {"dataset.size": 64},
}


class Case(NamedTuple):
    source: str  # a name, or a file in --data
    epochs: int  # unless asked otherwise: as many as show the differences
    settings: dict[str, Changes]


CASES: dict[str, Case] = {
    "digits": Case("digits", 60, EVERYWHERE | DIGITS),
    "flowers": Case("flowers.tar.gz", 12, EVERYWHERE | LARGER | FLOWERS),
    "cifar10": Case("cifar10.tar.gz", 2, EVERYWHERE | LARGER | CIFAR),
}


def experiment(source: str, changes: Changes, *, epochs: int, seed: int) -> Experiment:
    train = {"epochs": epochs, "patience": "never", "seed": seed}
    values: dict[str, Any] = {"dataset": {"source": source}, "train": train}
    for name, value in changes.items():
        part, field = name.split(".")
        values.setdefault(part, {})[field] = value
    return Experiment.model_validate(values)


def trial(chosen: Experiment, dataset: Dataset, *, seed: int) -> dict[str, float]:
    """Trains once, and judges by the last epoch."""
    images = dataset.images
    fold = folds(images, dataset.split.development, k=FOLDS, seed=0)[seed]
    pictures = Pictures(images.pixels)
    wall, cpu = time.perf_counter(), time.process_time()
    result = run_fit(chosen, learner_for(chosen, images, pictures, train=fold.train, val=fold.val, seed=seed))
    last = result.history[-1]
    return {
        "accuracy": last.val_accuracy,
        "loss": last.val_loss,
        "train_loss": last.train_loss,
        "n": len(fold.val),
        "epochs": len(result.history),
        "parameters": result.summary.parameters,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }


def done(file: Path) -> set[tuple[str, int, int, str]]:
    """Of another commit the defaults may be others."""
    lines = file.read_text().splitlines() if file.exists() else []
    found = [json.loads(line) for line in lines]
    return {(line["setting"], line["seed"], line["epochs"], line["machine"]["commit"]) for line in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with flowers.tar.gz and cifar10.tar.gz")
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--setting", action="append", help="one of them, may be repeated; by default all")
    parser.add_argument("--seeds", type=int, default=3, help=f"at most {FOLDS}")
    parser.add_argument("--epochs", type=int, help="by default 60 of digits, 12 of flowers, 2 of cifar10")
    parser.add_argument("--threads", type=int, help="by default torch's own number")
    parser.add_argument(
        "--home", type=Path, default=Path(".trainserve/benchmarks"), help="where unpacked pictures stay"
    )
    options = parser.parse_args()
    if not 1 <= options.seeds <= FOLDS:
        parser.error(f"--seeds {options.seeds} is not 1 to {FOLDS}: each holds out a fold of its own")
    if options.threads:
        torch.set_num_threads(options.threads)
    case, described = CASES[options.case], machine.describe()
    source = case.source if case.source == "digits" else str(options.data.resolve() / case.source)
    epochs = options.epochs or case.epochs
    file = RESULTS / f"defaults-{options.case}.jsonl"
    for seed in range(options.seeds):
        for setting in options.setting or case.settings:
            if (setting, seed, epochs, described["commit"]) in done(file):
                continue
            chosen = experiment(source, case.settings[setting], epochs=epochs, seed=seed)
            dataset = prepare(DatasetSpec.model_validate(chosen.dataset), options.home)
            figures = trial(chosen, dataset, seed=seed)
            told = {"setting": setting, "changes": case.settings[setting], "seed": seed}
            line = told | figures | {"machine": described, "threads": torch.get_num_threads()}
            with file.open("a") as lines:
                lines.write(json.dumps(line) + "\n")
            print(f"{options.case} {setting} {seed}: {figures['accuracy']:.1%}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
