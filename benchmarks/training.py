"""Pictures a second of this project's `fit`, beside a bare loop and other trainers, on the same network.

    python -m benchmarks.training --peers-env ~/peers [--data cifar10.tar.gz] [--stem published] [--repeats 7]
                                  [--only fit bare timm]

torchvision's ResNet-18, 2,000 pictures of 32 px in batches of 64, one thread. With `--stem small` (3 x 3, no pooling)
nearly all of the time is arithmetic, the same for all in one precision; with `--stem published`, which leaves a picture
of 32 px little arithmetic, what the trainers do beside it shows. `fit` holds network and pictures channels_last and
keeps freed memory by default; the others run as they are documented, and once more channels_last, and the bare loop
once more with freed memory kept. Each repetition runs every contender once, in a process of its own, one after the
other and in another order; the first epoch of each warms up and does not count. Compared are pictures per CPU second,
which another job on the machine disturbs least; ratios are taken within a repetition, and their median, lowest and
highest are told. benchmarks/peers/ has the programs.

The other trainers are no dependencies of this project. `--peers-env DIR` makes one environment for each below DIR,
where there is none yet, with uv: this interpreter, the torch and torchvision of this environment, and one of timm
1.0.31 (Apache-2.0), lightning 2.6.6 (Apache-2.0), fastai 2.8.12 (Apache-2.0), ultralytics 8.4.190 (AGPL-3.0). Without
it, or with names in --only, those others are left out. Without --data the pictures are made up.

The figures go to benchmarks/results/training-<stem>.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, pictures
from benchmarks.spread import Spread, ratios, spread

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PEERS = {"timm": "1.0.31", "lightning": "2.6.6", "fastai": "2.8.12", "ultralytics": "8.4.190"}
BEST_OF = ("timm", "lightning", "fastai")  # what the goal is stated against
OURS = {  # name -> (program, form)
    "bare": ("bare", "channels_last"),
    "bare, memory kept": ("bare", "kept"),
    "bare, contiguous": ("bare", "contiguous"),
    "fit": ("ours", "same"),
    "fit, defaults": ("ours", "defaults"),
}
THEIRS = {  # likewise, and each in its own environment
    **{name: (name, "") for name in PEERS},
    **{f"{name}, channels_last": (name, "channels_last") for name in BEST_OF},
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
UV = [sys.executable, "-m", "uv"]

Run = dict[str, Any]


def environment_of(peer: str, folder: Path) -> str:
    """The interpreter of the peer's own environment, which is made if it is not there."""
    python = folder / peer / "bin" / "python"
    if not python.exists():
        same = [f"{name}=={machine.version(name)}" for name in ("torch", "torchvision")]
        subprocess.run([*UV, "venv", "--python", sys.executable, str(folder / peer)], check=True)
        wanted = [f"{peer}=={PEERS[peer]}", *same]
        subprocess.run([*UV, "pip", "install", "--python", str(python), *wanted], check=True)
    return str(python)


def commands(peers: Path | None, only: list[str] | None) -> dict[str, list[str]]:
    """name -> how its program is started, less the folder."""
    found = {
        name: [sys.executable, "-m", f"benchmarks.peers.{program}", "--form", form]
        for name, (program, form) in OURS.items()
        if not only or name in only
    }
    if peers is not None:
        found |= {
            name: [environment_of(program, peers), "-m", f"benchmarks.peers.{program}", "--form", form]
            for name, (program, form) in THEIRS.items()
            if not only or name in only
        }
    return found


def run(command: list[str], folder: Path, *, epochs: int, stem: str | None = None) -> Run:
    """What the program told, of the epochs after the first; and what its whole process took."""
    environment = os.environ | ONE_THREAD | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    began, before = time.perf_counter(), os.times()
    more = ["--epochs", str(epochs), *(["--stem", stem] if stem else [])]
    done = subprocess.run([*command, str(folder), *more], env=environment, cwd=ROOT, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    counted = told.pop("epochs")[1:]
    total = {name: sum(epoch[name] for epoch in counted) for name in counted[0]}
    images, cpu_s = total["images"], total["cpu_s"]
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    whole = {"wall_s": wall, "cpu_s": cpu}
    return {
        "images_per_cpu_s": images / cpu_s,
        "images_per_s": images / total["wall_s"],
        "kernel_share": total["kernel_s"] / cpu_s,
        "page_faults_per_image": total["page_faults"] / images,
        "whole": whole,
        **told,
    }


def summary(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """By contender, one entry per repetition in `runs`, in step."""
    rates = {name: [one["images_per_cpu_s"] for one in some] for name, some in runs.items()}
    rows = {}
    for name, some in runs.items():
        rows[name] = {
            "images_per_cpu_s": spread(rates[name]),
            "images_per_s": spread([one["images_per_s"] for one in some]),
            "kernel_share": spread([one["kernel_share"] for one in some]),
            "page_faults_per_image": spread([one["page_faults_per_image"] for one in some]),
            "whole_wall_s": spread([one["whole"]["wall_s"] for one in some]),
            "whole_cpu_s": spread([one["whole"]["cpu_s"] for one in some]),
            "of_bare": ratios(rates[name], rates["bare"]) if "bare" in rates else None,
            "versions": some[-1]["versions"],
            "settings": some[-1]["settings"],
        }
    return {
        "contenders": rows,
        "over_the_best_of": list(BEST_OF),
        "over_best": over(rates, BEST_OF),  # as they are documented
        "over_best_of_either_layout": over(rates, [*BEST_OF, *(f"{name}, channels_last" for name in BEST_OF)]),
    }


def over(rates: dict[str, list[float]], others: Sequence[str]) -> dict[str, Spread]:
    """Our rates over the best of the others in the same repetition."""
    best = [max(repeat) for repeat in zip(*(rates[name] for name in others if name in rates), strict=True)]
    return {name: ratios(rates[name], best) for name in ("fit", "fit, defaults") if best and name in rates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-env", type=Path, help="folder for the others' environments; made if need be")
    parser.add_argument("--data", type=Path, help="cifar10.tar.gz; by default pictures are made up")
    parser.add_argument("--stem", choices=("small", "published"), default="small", help="of the network")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=3, help="of each run; the first does not count")
    parser.add_argument("--per-class", type=int, default=200, help="training pictures")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *THEIRS])
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs must be at least 2: the first does not count")
    contenders = commands(options.peers_env and options.peers_env.resolve(), options.only)
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        folder = Path(name)
        source = pictures.folder_of(folder, per_class=options.per_class, archive=options.data)
        for repeat in range(options.repeats):
            order = list(contenders)[:: 1 if repeat % 2 else -1]
            for contender in order:
                took = run(contenders[contender], folder, epochs=options.epochs, stem=options.stem)
                runs[contender].append(took)
                print(f"{repeat + 1}: {contender}: {took}", file=sys.stderr)
            figures = {
                "command": machine.command("training"),
                "stem": options.stem,
                "pictures": {"per_class": options.per_class, "from": source},
                "repeats": repeat + 1,
                **summary(runs),
                "machine": machine.describe(),
            }
            options.results.mkdir(exist_ok=True, parents=True)  # after each repetition: a later one may fail
            (options.results / f"training-{options.stem}.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({name: row["of_bare"] for name, row in figures["contenders"].items()}, indent=1))


if __name__ == "__main__":
    main()
