"""Seconds to the accuracy of the preset `cifar10-speed` on CIFAR-10, through this project's own `fit`; for a GPU.

    python -m benchmarks.cifar_speed [--data cifar10.tar.gz] [--runs 10] [--as-records] [--original DIR] [--device cuda]
                                     [--preset cifar10-speed-96 --goal 0.96]

Needs torch (2.11 or newer) and torchvision, and numpy, scipy, pillow, pydantic, safetensors and httpx beside them; no
Prefect, no BentoML, no scikit-learn, and no network: `--data` is an archive of train/CLASS/*.jpg and test/CLASS/*.jpg,
by default ../shared/data/cifar10.tar.gz. It is decoded once by this project's own `data.preprocess` and kept as arrays
in `--cache`.

One run warms up and is told apart. Then `--runs` runs in this process, with seeds 0, 1, ...: `loop_s` is the first
layer measured on pictures and all of `fit` (training, a validation after each epoch, the moving average if there is
one), `training_s` the training part alone, `test_s` the answers to the test pictures, as the preset has them given
(`answer.mirror`); test accuracy is of the weights that `fit` returns, on the test pictures. No run looks at them
before; but every fifth of them was used in choosing the rate of `cifar10-speed`, as those of the records were in
choosing theirs. By default a tenth of the training pictures is held out for validation, as in any run of this project.
`--as-records` does as the published records do: all 50,000 are trained on, nothing is validated, the last weights
count. Their clocks run while they test: their time is `loop_s` and `test_s` together.

`command_s` is wall time from the start of a process that decodes nothing, trains once and tests: `--fresh` of them,
after the rest was written.

Utilisation is the arithmetic that training needs over what the GPU's dense bfloat16 peak would do in `training_s`.

CIFAR-10 as JPEG costs some accuracy. With `--original`, a folder of the binary version of the original pixels, the
same preset is also trained and tested on those, with the same seeds: the cost is the mean test accuracy there less the
mean on JPEG, with its standard error. The equal of `--goal`, 94 %, is 94 % less that cost: what a network is worth 94 %
on the original pixels answers right on JPEG. The time to it is the mean of `loop_s` plus `test_s` on JPEG, if the mean
accuracy of these runs reaches it, which is so if those on the original pixels reach 94 %; if not there is none, and
more `--epochs` are to be tried.

Other presets are measured alike: `--preset cifar10-long` and `cifar10-long-conv-vit` are those for accuracy.

The figures go to benchmarks/results/cifar-speed-<device>-<preset>.json, with what else was asked for in the name, from
which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()  # before torch is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks import machine  # noqa: E402
from benchmarks.cifar import IMAGE, NUM_CLASSES, Cifar, Figures, opened, original, price  # noqa: E402
from benchmarks.spread import about  # noqa: E402
from data.augment import resolve  # noqa: E402
from data.loader import Pictures, TrainBatches, eval_batches  # noqa: E402
from flows.presets import PRESETS  # noqa: E402
from models.config import Experiment  # noqa: E402
from models.device import choose_device, describe, training_device  # noqa: E402
from models.evaluation.inference import validate  # noqa: E402
from models.mirror import Mirrored  # noqa: E402
from models.pixels import measure  # noqa: E402
from models.training.fit import Validation, fit  # noqa: E402
from models.training.utilisation import with_utilisation  # noqa: E402
from models.zoo.build import any_size, build, start_from  # noqa: E402

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[2] / "shared" / "data" / "cifar10.tar.gz"
EVAL_BATCH = 1000
SPEED = "cifar10-speed"


class NoValidation:
    """Every epoch is better than the one before, so that the last weights are the ones kept."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _: nn.Module) -> Validation:
        self.asked += 1
        return Validation(loss=0.0, accuracy=float(self.asked))


def once(experiment: Experiment, cifar: Cifar, pictures: Pictures, *, seed: int, as_records: bool) -> Figures:
    """One training and its test."""
    rows, config = cifar.all if as_records else cifar.train, experiment.train
    torch.manual_seed(seed)
    statistics = measure(cifar.pixels, rows)
    net = build(experiment.model, IMAGE, statistics, NUM_CLASSES).to(pictures.device)
    batches = TrainBatches(
        pictures,
        cifar.labels,
        rows,
        batch_size=config.batch_size if isinstance(config.batch_size, int) else 64,
        seed=seed,
        image=IMAGE,
        config=resolve(experiment.augment, IMAGE, mirror=True, any_size=any_size(experiment.model)),
        num_classes=NUM_CLASSES,
    )

    def judge(judged: nn.Module, judged_on: np.ndarray = cifar.val) -> Validation:
        seen = eval_batches(pictures, cifar.labels, judged_on, batch_size=EVAL_BATCH, image=IMAGE)
        return validate(judged, seen, precision=config.precision)

    clock = Clock(pictures.device)
    start_from(net, pictures, rows, IMAGE)
    result = fit(
        net,
        batches,
        NoValidation() if as_records else judge,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        config=config.model_copy(update={"seed": seed}),
    )
    loop_s = clock.read()
    net.load_state_dict(result.weights)
    clock = Clock(pictures.device)
    accuracy = judge(Mirrored(net) if experiment.answer.mirror else net, cifar.test).accuracy
    test_s = clock.read()
    summary = with_utilisation(result.summary, result.history, net, batches, IMAGE)
    return {
        "loop_s": loop_s,
        "training_s": sum(len(rows) / record.images_per_s for record in result.history),
        "test_s": test_s,
        "loop_and_test_s": loop_s + test_s,
        "test_accuracy": accuracy,
        "epochs": summary.epochs_run,
        "images_per_s": summary.images_per_s,
        **({} if summary.utilisation is None else {"utilisation": summary.utilisation}),
    }


class Clock:
    """Seconds since it was made, with all that a GPU was given to do done at both ends."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wait()
        self.began = time.perf_counter()

    def read(self) -> float:
        self.wait()
        return time.perf_counter() - self.began

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def changed(experiment: Experiment, options: argparse.Namespace) -> Experiment:
    """The preset, with what the command line says otherwise."""
    given = experiment.model_dump()
    for section, name in (("train", "epochs"), ("train", "batch_size"), ("model", "width")):
        if getattr(options, name) is not None:
            given[section][name] = getattr(options, name)
    given["train"]["devices"] = options.device
    return Experiment.model_validate(given)


def fresh(options: argparse.Namespace, cache: Path) -> list[float]:
    """Wall seconds of whole processes."""
    command = [sys.executable, "-m", "benchmarks.cifar_speed", *sys.argv[1:], "--only-one", "--cache", str(cache)]
    seconds = []
    for _ in range(options.fresh):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    return seconds


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="cifar10.tar.gz; by default that of ../shared/data")
    parser.add_argument("--original", type=Path, help="folder of the binary version, to say what JPEG costs")
    parser.add_argument("--cache", type=Path, help="file for the decoded pictures, .npz; by default a temporary one")
    parser.add_argument("--preset", choices=PRESETS, default=SPEED)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--goal", type=float, default=0.94, help="test accuracy, as on the original pixels")
    parser.add_argument("--fresh", type=int, default=10, help="processes timed from their command")
    parser.add_argument("--as-records", action="store_true", help="train on all 50,000, validate on none")
    parser.add_argument("--train-on", type=int, help="so many training pictures, evenly of all; for a CPU")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--batch-size", type=int, help="instead of the preset's")
    parser.add_argument("--width", type=int, help="of the model, instead of the preset's")
    parser.add_argument("--only-one", action="store_true", help="train and test once, and write nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def several(experiment: Experiment, cifar: Cifar, pictures: Pictures, options: argparse.Namespace) -> list[Figures]:
    runs = []
    for seed in range(options.runs):
        runs.append(once(experiment, cifar, pictures, seed=seed, as_records=options.as_records))
        print(f"seed {seed}: {runs[-1]}", file=sys.stderr)
    return runs


def measured(options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    experiment = changed(PRESETS[options.preset], options)
    device = training_device(experiment.train.devices)
    began = time.perf_counter()
    cifar = opened(options.data, cache, train_on=options.train_on)
    opening_s = time.perf_counter() - began
    pictures = Pictures(cifar.pixels, device)
    first = once(experiment, cifar, pictures, seed=0, as_records=options.as_records)
    print(f"first: {first}", file=sys.stderr)
    if options.only_one:
        return {}
    runs = several(experiment, cifar, pictures, options)
    jpeg = None
    if options.original is not None:
        pixels = original(options.original, train_on=options.train_on)
        jpeg = price(runs, several(experiment, pixels, Pictures(pixels.pixels, device), options), goal=options.goal)
    return {
        "command": machine.command("cifar_speed"),
        "experiment": experiment.model_dump(mode="json"),
        "as_records": options.as_records,
        "device": describe(device),
        "trained_on": len(cifar.all if options.as_records else cifar.train),
        "tested_on": len(cifar.test),
        "first": first,
        "imports_s": began - BEGAN,
        "opening_s": opening_s,
        "runs": runs,
        "of_runs": {name: about([run[name] for run in runs]) for name in runs[0]},
        "jpeg": jpeg,
        "command_s": None,
        "machine": machine.describe(),
    }


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as folder:
        cache = options.cache or Path(folder) / "cifar10.npz"
        figures = measured(options, cache)
        if options.only_one:
            return
        options.results.mkdir(exist_ok=True, parents=True)
        file = options.results / f"cifar-speed-{name_of(options)}.json"
        file.write_text(json.dumps(figures, indent=1) + "\n")
        if options.fresh:
            figures["command_s"] = about(fresh(options, cache))
            file.write_text(json.dumps(figures, indent=1) + "\n")
        print(json.dumps({key: figures[key] for key in ("device", "of_runs", "jpeg", "command_s")}, indent=1))


def name_of(options: argparse.Namespace) -> str:
    """Of the measurement: what differs from the preset is in it."""
    changes = ("epochs", "batch_size", "width", "train_on")
    asked = [f"{change}-{getattr(options, change)}" for change in changes if getattr(options, change) is not None]
    records = ["as-records"] if options.as_records else []
    return "-".join([choose_device(options.device).type, options.preset, *records, *asked])


if __name__ == "__main__":
    main()
