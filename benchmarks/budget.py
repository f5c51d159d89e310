"""What test accuracy a budget of minutes gives on a CPU, beside other trainers under the same budget.

    python -m benchmarks.budget --data ../shared/data --minutes 5 15 60 [--case cifar10] [--contender cnn timm]
                                [--peers-env ~/peers]

Each combination is trained once and takes its minutes, and a few more. The minutes are those of training: not of
unpacking and testing, nor, with this project, of decoding. This project trains through its command line with
`--train.max_minutes`, which holds its own measuring of speed and its validation, and chooses by pictures that it splits
off those to train on. Each of timm, lightning and fastai trains a ResNet-18 on all of them, by a program in
benchmarks/peers/, in an environment of its own (`python -m benchmarks.training --help` says of which versions; without
`--peers-env` they are left out), for as many whole epochs as fit by the measure of a short pilot, whose time does not
count; where not even one fits, for a shortened one.

Tested is on pictures that nobody trained on or chose by: the test folder of cifar10, and of flowers the test part that
the product splits off with its default seed, the same for all.

The figures of each run go to benchmarks/results/budget-<case>-<minutes>-<contender>.json, from which
`benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import accuracy, machine
from benchmarks.parts import lay_out
from benchmarks.training import BEST_OF, RESULTS, ROOT, environment_of
from data.prepare import prepare
from data.spec import DatasetSpec
from models.device import multiplies_bfloat16
from models.evaluation.metrics import wilson

OURS = ("cnn", "conv_vit")
PEERS = BEST_OF
MOST_EPOCHS = 10_000  # so that the minutes decide

Figures = dict[str, Any]


class Case(NamedTuple):
    archive: str
    side: int  # pixels, for the others; this project chooses its own


CASES = {"cifar10": Case("cifar10.tar.gz", 32), "flowers": Case("flowers.tar.gz", 128)}


def ours(contender: str, source: Path, *, minutes: float, home: Path) -> Figures:
    arguments = ["--dataset.source", str(source), "--model.kind", contender]
    arguments += ["--train.max_minutes", f"{minutes:g}", "--train.epochs", str(MOST_EPOCHS)]
    told = accuracy.measure(contender, arguments, home)
    fit, described = told["fit"], told["machine"]
    settings = {
        "network": f"{contender}, {fit['parameters']:,} parameters",
        "side": told["image"]["height"],
        "chosen by": f"{told['validation']['n']:,} of the pictures to train on",
        "epochs": f"{fit['epochs_run']} of {fit['epochs_planned']} planned",
        "device": fit["device"],
        "precision": "bfloat16" if multiplies_bfloat16(torch.device("cpu")) else "float32",
        "all else": f"as by default, but --train.epochs {MOST_EPOCHS}, so that the minutes decide",
    }
    return {
        "epochs": fit["epochs_run"],
        "seconds": fit["seconds"],
        "images_per_s": fit["images_per_s"],  # the median epoch's, without its validation
        "test": {key: told["test"][key] for key in ("n", "accuracy", "interval")},
        "versions": {name: described[name] for name in ("torch", "torchvision")},
        "settings": settings,
        "trainserve": told["command"],
    }


def theirs(python: str, contender: str, folder: Path, *, minutes: float, side: int) -> Figures:
    program = [python, "-m", f"benchmarks.peers.budget_{contender}", str(folder)]
    done = subprocess.run(
        [*program, "--seconds", str(60 * minutes), "--side", str(side)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(program)} failed:\n{done.stderr[-3000:]}")
    told: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    correct, n = told.pop("correct"), told.pop("n")
    return told | {"test": {"n": n, "accuracy": correct / n, "interval": wilson(correct, n).model_dump()}}


def measure(
    case: str, contender: str, *, minutes: float, data: Path, peers: Path | None, per_class: int | None
) -> Figures:
    archive, side = data / CASES[case].archive, CASES[case].side
    python = environment_of(contender, peers) if contender in PEERS and peers is not None else None
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        home, source = Path(name), archive
        if python or per_class:
            source = home / "pictures"
            lay_out(prepare(DatasetSpec(source=str(archive)), home / "split"), source, per_class=per_class)
        began, before = time.perf_counter(), machine.ticks()
        if python:
            told = theirs(python, contender, source, minutes=minutes, side=side)
        else:
            told = ours(contender, source, minutes=minutes, home=home)
        whole_s = time.perf_counter() - began
        told["settings"]["processor time stolen by other guests"] = f"{machine.stolen(before, machine.ticks()):.1%}"
    asked = {"case": case, "minutes": minutes, "contender": contender, "per_class": per_class}
    command = machine.command("budget")
    return {**asked, "command": command, **told, "whole_s": whole_s, "machine": machine.describe()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with flowers.tar.gz and cifar10.tar.gz")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0], help="of training, each")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contender", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    parser.add_argument("--peers-env", type=Path, help="folder for the others' environments; made if need be")
    parser.add_argument("--per-class", type=int, help=argparse.SUPPRESS)  # to try this file on few pictures
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    peers = options.peers_env and options.peers_env.expanduser().resolve()
    options.results.mkdir(exist_ok=True, parents=True)
    for minutes, case, contender in product(options.minutes, options.case, options.contender):
        if contender in PEERS and peers is None:
            print(f"{contender} left out: --peers-env says where its environment is, or is to be made", file=sys.stderr)
            continue
        figures = measure(
            case, contender, minutes=minutes, data=options.data.resolve(), peers=peers, per_class=options.per_class
        )
        file = options.results / f"budget-{case}-{minutes:g}-{contender}.json"
        file.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"{case}, {minutes:g} minutes, {contender}: {figures['test']}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
