"""Pictures a second of one training on one card, on two, and so on, through the command line.

    python -m benchmarks.scaling --data cifar10.tar.gz [--devices 1 2 4 8] [--kind resnet] [--batch-size 256]

Each is one `trainserve run --train.devices N` of a few epochs in the same home folder; a batch is shared out among the
cards, so the same batches are computed by more of them. Told are pictures a second of training, and the gain over one
card, one run each; the speed is that of the median epoch, so that the first, which warms up, does not count. Without
GPUs the processes share the CPU, a part of its cores each: that shows that it works, and little else.

The figures go to benchmarks/results/scaling.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import accuracy, machine

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="any source that `trainserve run` takes")
    parser.add_argument("--devices", type=int, nargs="+", help="by default 1, 2, 4, ... as many as there are")
    parser.add_argument("--kind", default="resnet", help="as model.kind")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    present = max(1, torch.cuda.device_count())
    devices = options.devices or [1 << power for power in range(present.bit_length())]
    source = str(options.data.resolve() if options.data.exists() else options.data)
    rows = []
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as home:
        for num in devices:
            arguments = ["--dataset.source", source, "--model.kind", options.kind, "--train.devices", str(num)]
            arguments += ["--train.batch_size", str(options.batch_size), "--train.epochs", str(options.epochs)]
            fit = accuracy.measure(f"{num}", arguments, Path(home))["fit"]
            row = {"devices": num, "device": fit["device"], "images_per_s": fit["images_per_s"]}
            rows.append(row | {"gain": fit["images_per_s"] / (rows[0] if rows else row)["images_per_s"]})
            print(rows[-1], file=sys.stderr)
    options.results.mkdir(exist_ok=True, parents=True)
    told = {"command": machine.command("scaling"), "kind": options.kind, "machine": machine.describe()}
    (options.results / "scaling.json").write_text(json.dumps({"rows": rows, **told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
