"""Seconds to the accuracy of the preset `cifar10-speed` on CIFAR-10, through this project's own `fit`; for a GPU.

    python -m benchmarks.cifar_speed [--data cifar10.tar.gz] [--runs 10] [--as-records] [--original DIR] [--device cuda]
                                     [--preset cifar10-speed-96 --goal 0.96]

Needs torch (2.11 or newer) and torchvision, and numpy, scipy, pillow, pydantic, safetensors and httpx beside them; no
simplejpeg, no Prefect, no BentoML, no scikit-learn, and no network: `--data` is an archive of train/CLASS/*.jpg and
test/CLASS/*.jpg, by default ../shared/data/cifar10.tar.gz. It is decoded once by this project's own `data.preprocess`
and kept as arrays in `--cache`.

One run warms up and is told apart; with `--no-warm-up` none does, and the first of the runs is slower. Then `--runs`
runs in this process, with seeds 0, 1, ...: `loop_s` is the first layer measured on pictures and all of `fit` (training,
a validation after each epoch, the moving average if there is one), `training_s` the training part alone, `test_s` the
answers to the test pictures, as the preset has them given (`answer.mirror`); test accuracy is of the weights that `fit`
returns, on the test pictures. No run looks at them before; but every fifth of them was used in choosing the rate of
`cifar10-speed`, as those of the records were in choosing theirs. By default a tenth of the training pictures is held
out for validation, as in any run of this project. `--as-records` does as the published records do: all 50,000 are
trained on, nothing is validated, the last weights count. Their clocks run while they test: their time is `loop_s` and
`test_s` together.

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
which `benchmarks/render.py` makes results.md. They are written after each run: those of a process that ends before all
are done are of the runs until then.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()  # before torch is imported

from benchmarks import machine  # noqa: E402
from benchmarks.cifar import Cifar, Figures, opened, original, price  # noqa: E402
from benchmarks.cifar_once import once  # noqa: E402
from benchmarks.spread import about  # noqa: E402
from data import whole  # noqa: E402
from data.loader import Pictures  # noqa: E402
from flows.presets import PRESETS  # noqa: E402
from models.config import Experiment  # noqa: E402
from models.device import choose_device, describe, training_device  # noqa: E402

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[2] / "shared" / "data" / "cifar10.tar.gz"
SPEED = "cifar10-speed"


def changed(experiment: Experiment, options: argparse.Namespace) -> Experiment:
    """The preset, with what the command line says otherwise."""
    given = experiment.model_dump()
    for section, name in (("train", "epochs"), ("train", "batch_size"), ("model", "width")):
        if getattr(options, name) is not None:
            given[section][name] = getattr(options, name)
    given["train"]["devices"] = options.device
    return Experiment.model_validate(given)


def fresh(options: argparse.Namespace, cache: Path) -> Iterator[list[float]]:
    """Wall seconds of the whole processes until now, after each."""
    command = [sys.executable, "-m", "benchmarks.cifar_speed", *sys.argv[1:], "--only-one", "--cache", str(cache)]
    seconds = []
    for _ in range(options.fresh):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
        yield [*seconds]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="cifar10.tar.gz; by default that of ../shared/data")
    parser.add_argument("--original", type=Path, help="folder of the binary version, to say what JPEG costs")
    parser.add_argument("--cache", type=Path, help="file for the decoded pictures, .npz; by default a temporary one")
    parser.add_argument("--preset", choices=PRESETS, default=SPEED)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--no-warm-up", action="store_true", help="the first run counts, too")
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


def several(
    experiment: Experiment, cifar: Cifar, pictures: Pictures, options: argparse.Namespace
) -> Iterator[list[Figures]]:
    """The runs until now, after each."""
    runs: list[Figures] = []
    for seed in range(options.runs):
        runs.append(once(experiment, cifar, pictures, seed=seed, as_records=options.as_records))
        print(f"seed {seed}: {runs[-1]}", file=sys.stderr)
        yield [*runs]


def measured(options: argparse.Namespace, cache: Path, write: Callable[[dict[str, Any]], None]) -> None:
    """`write` gets what is new after each run; what is to come is empty or None until then."""
    experiment = changed(PRESETS[options.preset], options)
    device = training_device(experiment.train.devices)
    began = time.perf_counter()
    cifar = opened(options.data, cache, train_on=options.train_on)
    opening_s = time.perf_counter() - began
    pictures = Pictures(cifar.pixels, device)
    first = None
    if options.only_one or not options.no_warm_up:
        first = once(experiment, cifar, pictures, seed=0, as_records=options.as_records)
        print(f"first: {first}", file=sys.stderr)
    if options.only_one:
        return
    figures: dict[str, Any] = {
        "command": machine.command("cifar_speed"),
        "experiment": experiment.model_dump(mode="json"),
        "as_records": options.as_records,
        "device": describe(device),
        "trained_on": len(cifar.all if options.as_records else cifar.train),
        "tested_on": len(cifar.test),
        "first": first,
        "imports_s": began - BEGAN,
        "opening_s": opening_s,
        "runs": [],
        "of_runs": {},
        "jpeg": None,
        "command_s": None,
        "machine": machine.describe(),
    }
    for runs in several(experiment, cifar, pictures, options):
        write(figures | {"runs": runs, "of_runs": {name: about([run[name] for run in runs]) for name in runs[0]}})
    if options.original is not None:
        pixels = original(options.original, train_on=options.train_on)
        for of_original in several(experiment, pixels, Pictures(pixels.pixels, device), options):
            write({"jpeg": price(runs, of_original, goal=options.goal)})
    for seconds in fresh(options, cache):
        write({"command_s": about(seconds)})


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as folder:
        cache = options.cache or Path(folder) / "cifar10.npz"
        figures: dict[str, Any] = {}

        def write(more: dict[str, Any]) -> None:
            figures.update(more)
            file = options.results / f"cifar-speed-{name_of(options)}.json"
            whole.write(file, f"{json.dumps(figures, indent=1)}\n".encode())

        measured(options, cache, write)
    told = ("device", "of_runs", "jpeg", "command_s")
    print(json.dumps({key: figures[key] for key in told if key in figures}, indent=1))


def name_of(options: argparse.Namespace) -> str:
    """Of the measurement: what differs from the preset is in it."""
    changes = ("epochs", "batch_size", "width", "train_on")
    asked = [f"{change}-{getattr(options, change)}" for change in changes if getattr(options, change) is not None]
    flags = [name for name in ("as_records", "no_warm_up") if getattr(options, name)]
    named = [name.replace("_", "-") for name in flags]
    return "-".join([choose_device(options.device).type, options.preset, *named, *asked])


if __name__ == "__main__":
    main()
