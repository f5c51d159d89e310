"""Accuracy and time of the whole chain, through the command line, as a user would run it.

    python -m benchmarks.accuracy --data ../shared/data [--only flowers-cnn] [--minutes 15]

Each case is one `trainserve run --json` in an empty home folder; its figures go to
benchmarks/results/accuracy-<case>.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine

RESULTS = Path(__file__).parent / "results"
TRAINSERVE = str(Path(sys.executable).with_name("trainserve"))  # of this environment


def cases(data: Path, minutes: float) -> dict[str, list[str]]:
    """name -> what follows `trainserve run`. CIFAR-10 and Transformers on photographs get a budget of minutes."""
    flowers, cifar = str(data / "flowers.tar.gz"), str(data / "cifar10.tar.gz")
    budget = ["--train.max_minutes", str(minutes)]
    return {
        "digits-cnn": [],
        "digits-vit": ["--model.kind", "vit"],
        "flowers-cnn": ["--dataset.source", flowers],
        "flowers-vit": ["--dataset.source", flowers, "--model.kind", "vit", *budget],
        "flowers-conv_vit": ["--dataset.source", flowers, "--model.kind", "conv_vit", *budget],
        "cifar10-cnn": ["--dataset.source", cifar, *budget],
        "cifar10-vit": ["--dataset.source", cifar, "--model.kind", "vit", *budget],
        "cifar10-conv_vit": ["--dataset.source", cifar, "--model.kind", "conv_vit", *budget],
    }


def measure(name: str, arguments: list[str], home: Path) -> dict[str, object]:
    environment = os.environ | {
        "TRAINSERVE_HOME": str(home / "trainserve"),
        "BENTOML_HOME": str(home / "bentoml"),
        "PREFECT_HOME": str(home / "prefect"),
    }
    started = time.perf_counter()
    done = subprocess.run(
        [TRAINSERVE, "run", *arguments, "--json"], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - started
    answer = json.loads(done.stdout)
    run = json.loads((Path(answer["run_folder"]) / "run.json").read_text())
    card = json.loads((Path(answer["bundle"]) / "card.json").read_text())
    shown = [Path(a).name if "/" in a else a for a in arguments]
    return {
        "case": name,
        "command": " ".join(["trainserve", "run", *shown, "--json"]),
        "seconds": seconds,
        "stages": answer["seconds"],
        "fit": run["fit"],
        "image": run["image"],
        "test": {key: run["test"][key] for key in ("n", "accuracy", "interval", "ece")},
        "validation": {key: run["validation"][key] for key in ("n", "accuracy", "interval")},
        "parity": {name: card["parity"][name] for name in ("n", "largest_difference", "changed_answers")},
        "runs": 1,
        "machine": machine.describe(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with flowers.tar.gz and cifar10.tar.gz")
    parser.add_argument("--only", action="append", help="a case; may be repeated")
    parser.add_argument("--minutes", type=float, default=15, help="budget of the cases that have one")
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for name, arguments in cases(options.data.resolve(), options.minutes).items():
        if options.only and name not in options.only:
            continue
        with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as home:
            figures = measure(name, arguments, Path(home))
        (RESULTS / f"accuracy-{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
        print(f"{name}: {figures['test']}", file=sys.stderr)


if __name__ == "__main__":
    main()
