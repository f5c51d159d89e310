"""Pictures a second and core of this project's data path, beside torchvision's and timm's.

    python -m benchmarks.datapath --peers-env ~/peers [--data cifar10.tar.gz] [--photos flowers.tar.gz] [--repeats 7]

From a folder of JPEGs to normalised batches of 64, one thread, nothing trained. At 32 px 2,000 pictures of that size;
at 128 px 50 photographs of each class (without --photos ten classes are made up, 800 x 800 px). This project decodes a
picture once and then takes it from a file of bytes; the others decode it in every epoch, as their documentation has it.
At 128 px it cuts its random parts out of the picture as it was stored, of that size; the others out of the photograph.
The first epoch warms up and does not count; what decoding once costs is told apart, as `prepare_cpu_s`.

Each repetition runs every contender once, in a process of its own, in another order; compared are pictures per CPU
second, and ratios are taken within a repetition. timm runs in the environment that `python -m benchmarks.training
--peers-env DIR` describes; without it timm is left out.

The figures go to benchmarks/results/datapath.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, pictures
from benchmarks.spread import ratios, spread
from benchmarks.training import RESULTS, Run, environment_of, run

PHOTOGRAPH = 800  # pixels, of those made up
PHOTOGRAPHS_PER_CLASS = 50
GOALS = {32: 10_000, 128: 1_000}  # pictures a second and core


def commands(side: int, peers: Path | None) -> dict[str, list[str]]:
    """name -> how its program is started, less the folder."""
    here = [sys.executable, "-m"]
    found = {
        "trainserve": [*here, "benchmarks.peers.loader_ours", "--form", str(side)],
        "torchvision": [*here, "benchmarks.peers.loader_torchvision", "--form", str(side)],
    }
    if side == 128:
        found["trainserve, defaults"] = [*here, "benchmarks.peers.loader_ours", "--form", "128-defaults"]
    if peers is not None:
        found["timm"] = [environment_of("timm", peers), "-m", "benchmarks.peers.loader_timm", "--form", str(side)]
    return found


def measured(side: int, folder: Path, peers: Path | None, *, repeats: int, epochs: int) -> list[dict[str, Any]]:
    """One row per contender."""
    contenders = commands(side, peers)
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name in list(contenders)[:: 1 if repeat % 2 else -1]:
            runs[name].append(run(contenders[name], folder, epochs=epochs))
            print(f"{side} px, {repeat + 1}: {name}: {runs[name][-1]['images_per_cpu_s']:,.0f}", file=sys.stderr)
    rates = {name: [one["images_per_cpu_s"] for one in some] for name, some in runs.items()}
    return [
        {
            "side": side,
            "what": name,
            "images_per_cpu_s": spread(rates[name]),
            "of_torchvision": ratios(rates[name], rates["torchvision"]),
            "goal": GOALS[side] if name.startswith("trainserve") else None,
            "versions": some[-1]["versions"],
            "settings": some[-1]["settings"],
        }
        for name, some in runs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-env", type=Path, help="folder for the others' environments; made if need be")
    parser.add_argument("--data", type=Path, help="cifar10.tar.gz, for 32 px; by default pictures are made up")
    parser.add_argument("--photos", type=Path, help="archive of CLASS/*.jpg, for 128 px")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=4, help="of each run; the first does not count")
    parser.add_argument("--per-class", type=int, default=200, help="pictures of 32 px")
    parser.add_argument("--photos-per-class", type=int, default=PHOTOGRAPHS_PER_CLASS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    peers = options.peers_env and options.peers_env.resolve()
    rows, sources = [], {}
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        for side, made_up, per_class, archive in (
            (32, 32, options.per_class, options.data),
            (128, PHOTOGRAPH, options.photos_per_class, options.photos),
        ):
            folder = Path(name) / str(side)
            sources[str(side)] = pictures.folder_of(folder, per_class=per_class, side=made_up, archive=archive)
            rows += measured(side, folder, peers, repeats=options.repeats, epochs=options.epochs)
    figures = {
        "command": machine.command("datapath"),
        "pictures": sources,
        "repeats": options.repeats,
        "rows": rows,
        "machine": machine.describe(),
    }
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "datapath.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({f"{row['side']} {row['what']}": row["images_per_cpu_s"]["median"] for row in rows}, indent=1))


if __name__ == "__main__":
    main()
