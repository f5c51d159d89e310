"""Pictures a second and core of training batches out of shards, beside torchvision's ImageFolder with a DataLoader.

    python -m benchmarks.shards [--data cifar10.tar.gz] [--photos flowers.tar.gz] [--repeats 5]

Nothing is kept decoded: everybody decodes every picture in every epoch, and ends at normalised batches of 64. Pictures
of 32 px as they are, cropped out of a padding and mirrored; photographs at 128 px, a random part scaled and mirrored.
This project reads the shards that `trainserve data shards` wrote of the same files, and cuts its random part out of the
picture at 128 px; torchvision cuts it out of the file's. `tar in turn` is the plain loop over the same shards: tarfile,
Pillow, torchvision's transforms, a shuffle buffer of 1,000 pictures, as readers of WebDataset do.

Compared are pictures per CPU second, of one thread in one process (`0 workers`), and of as many decoding processes as
there are cores, whose CPU seconds count. Each repetition runs every contender once, in a process of its own, in another
order; the first epoch does not count; ratios are taken within a repetition. The goal is 2 x ImageFolder.

The figures go to benchmarks/results/shards.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, pictures
from benchmarks.spread import ratios, spread
from benchmarks.training import RESULTS, Run, run
from data.prepare import listed
from data.shards.write import write
from data.spec import DatasetSpec

GOAL = 2.0
PHOTOGRAPH = 320  # pixels, of those made up
CORES = len(os.sched_getaffinity(0))
MEGABYTES = 4  # of a shard: several of a small set
CONTENDERS = {
    "trainserve": "benchmarks.peers.shards_ours",
    "ImageFolder": "benchmarks.peers.shards_imagefolder",
    "tar in turn": "benchmarks.peers.shards_in_turn",
}


def measured(side: int, workers: int, place: Path, *, repeats: int, epochs: int) -> list[dict[str, Any]]:
    """One row per contender."""
    runs: dict[str, list[Run]] = {name: [] for name in CONTENDERS}
    for repeat in range(repeats):
        for name in list(CONTENDERS)[:: 1 if repeat % 2 else -1]:
            command = [sys.executable, "-m", CONTENDERS[name], "--form", f"{side} {workers}"]
            runs[name].append(run(command, place, epochs=epochs))
            print(f"{side} px, {workers} workers, {name}: {runs[name][-1]['images_per_cpu_s']:,.0f}", file=sys.stderr)
    rates = {name: [one["images_per_cpu_s"] for one in some] for name, some in runs.items()}
    return [
        {
            "side": side,
            "workers": workers,
            "what": name,
            "images_per_cpu_s": spread(rates[name]),
            "images_per_s": spread([one["images_per_s"] for one in some]),
            "of_imagefolder": ratios(rates[name], rates["ImageFolder"]),
            "goal": GOAL if name == "trainserve" else None,
            "versions": some[-1]["versions"],
        }
        for name, some in runs.items()
    ]


def placed(place: Path, archive: Path | None, *, per_class: int, side: int) -> tuple[str, dict[str, int]]:
    """`files` and `shards` in `place`; where the pictures are from, and how much they are."""
    source = pictures.folder_of(place / "files", per_class=per_class, side=side, archive=archive)
    found = listed(DatasetSpec(source=str(place / "files")), place / "home")
    num = write(found, place / "shards", megabytes=MEGABYTES)
    return source, {"pictures": len(found.files), "shards": num, "bytes": int(found.sizes.sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="cifar10.tar.gz, for 32 px; by default pictures are made up")
    parser.add_argument("--photos", type=Path, help="archive of CLASS/*.jpg, for 128 px")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4, help="of each run; the first does not count")
    parser.add_argument("--per-class", type=int, default=1000, help="pictures of 32 px")
    parser.add_argument("--photos-per-class", type=int, default=400)
    parser.add_argument("--note", default="", help="what else there is to know of this run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    figures = {"command": machine.command("shards"), "repeats": options.repeats, "note": options.note, "pictures": {}}
    options.results.mkdir(exist_ok=True, parents=True)
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as name:
        for side, made_up, per_class, archive in (
            (32, 32, options.per_class, options.data),
            (128, PHOTOGRAPH, options.photos_per_class, options.photos),
        ):
            place = Path(name) / str(side)
            figures["pictures"][str(side)] = placed(place, archive, per_class=per_class, side=made_up)
            for workers in (0, CORES):
                rows += measured(side, workers, place, repeats=options.repeats, epochs=options.epochs)
                figures |= {"rows": rows, "machine": machine.describe()}  # after each case: a later one may fail
                (options.results / "shards.json").write_text(json.dumps(figures, indent=1) + "\n")
    told = {f"{row['side']} px, {row['workers']} workers, {row['what']}": row["of_imagefolder"] for row in rows}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
