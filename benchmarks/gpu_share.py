"""The share of a training in which the GPU computes, by the profiler's record of every kernel.

    python -m benchmarks.gpu_share --data cifar10.tar.gz [--kind cnn resnet vit] [--epochs 2] [--train-on 10000]

Each kind is trained as by default, on 10,000 pictures of CIFAR-10, a tenth of them held out for validation, through
this project's own `fit`: once to warm up, and once under `torch.profiler`, which sees nothing else. The share is the
time covered by kernels and copies of the GPU, over the time from the first of them to the last; what overlaps counts
once. So reading, augmenting and validating count against it wherever they make the GPU wait; checkpoints, curves and
progress, which `trainserve run` adds, do not. The profiler slows the CPU's part, so that the true share is higher. One
run each. Needs what `benchmarks.cifar_speed` needs.

The figures go to benchmarks/results/gpu-share.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks import machine
from benchmarks.cifar import Cifar, opened
from benchmarks.cifar_once import once
from benchmarks.cifar_speed import RESULTS
from data.loader import Pictures
from models.config import Experiment
from models.device import describe, training_device

Interval = tuple[float, float]  # start and end


def covered(intervals: Iterable[Interval]) -> float:
    """Length of the union."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def share(intervals: list[Interval]) -> float:
    """Of the time from the first start to the last end; 0 where there is none."""
    if not intervals:
        return 0.0
    span = max(end for _, end in intervals) - min(start for start, _ in intervals)
    return covered(intervals) / span if span else 0.0


def computed(profiled: profile, on: DeviceType = DeviceType.CUDA) -> list[Interval]:
    """Of every kernel and copy, in nanoseconds: from the raw records, since `profile.events` builds a tree of them,
    which for a million takes longer than the training. What was marked by name spans kernels and the gaps between."""
    assert profiled.profiler is not None  # once it was entered
    records = profiled.profiler.kineto_results.events()
    return [(e.start_ns(), e.end_ns()) for e in records if e.device_type() == on and not e.is_user_annotation()]


def measured(kind: str, cifar: Cifar, pictures: Pictures, *, epochs: int) -> dict[str, Any]:
    train = {"epochs": epochs, "devices": "cuda"}
    experiment = Experiment.model_validate({"model": {"kind": kind}, "train": train})
    once(experiment, cifar, pictures, seed=0, as_records=False)
    profiled = profile(activities=[ProfilerActivity.CUDA])
    figures = once(experiment, cifar, pictures, seed=0, as_records=False, around_fit=profiled)
    intervals = computed(profiled)
    plain = once(experiment, cifar, pictures, seed=0, as_records=False)  # for speeds that no profiler slowed
    found = {"share": share(intervals), "kernels": len(intervals), "loop_s": plain["loop_s"]}
    told = {name: plain[name] for name in ("images_per_s", "utilisation") if name in plain}
    return {"kind": kind, "epochs": epochs, "profiled_loop_s": figures["loop_s"], **found, **told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cifar10.tar.gz")
    parser.add_argument("--cache", type=Path, help="file for the decoded pictures, .npz; by default a temporary one")
    parser.add_argument("--kind", nargs="+", default=["cnn", "resnet", "vit"], help="as model.kind")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train-on", type=int, default=10_000, help="so many training pictures, evenly of all")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU is here: this measures one")
    device, rows = training_device("cuda"), []
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as folder:
        cifar = opened(options.data, options.cache or Path(folder) / "cifar10.npz", train_on=options.train_on)
    pictures = Pictures(cifar.pixels, device)
    options.results.mkdir(exist_ok=True, parents=True)
    told = {"command": machine.command("gpu_share"), "device": describe(device), "machine": machine.describe()}
    told["trained_on"] = len(cifar.train)
    for kind in options.kind:
        rows.append(measured(kind, cifar, pictures, epochs=options.epochs))
        print(rows[-1], file=sys.stderr)
        (options.results / "gpu-share.json").write_text(json.dumps({"rows": rows, **told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
