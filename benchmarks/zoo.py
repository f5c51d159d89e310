"""What each kind of network weighs and how fast it trains, with its defaults, to choose by.

    python -m benchmarks.zoo [--side 32 96] [--batch 64] [--repeats 3]

Random pictures of ten classes; one thread; the product's own training step (Muon, clipping, bfloat16 where the
processor multiplies in it, freed memory kept), without reading, augmenting, validating. Pictures per CPU second are the
median of the repetitions, each of some steps of every kind, one kind after the other.

The figures go to benchmarks/results/zoo.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import machine
from benchmarks.spread import spread
from data.spec import ImageSpec
from models.config import Experiment
from models.records import PixelStatistics
from models.training.allocation import keep_freed_memory
from models.training.optim import build_optimizer, set_rate
from models.training.step import train_step
from models.zoo.build import build
from models.zoo.cost import cost

RESULTS = Path(__file__).parent / "results"
KINDS = ("softmax", "mlp", "lenet", "lstm", "cnn", "stn", "vit", "conv_vit", "alexnet", "resnet", "vgg", "whitened")
NUM_CLASSES = 10
STEPS = 3  # counted, after one that warms up


def network(kind: str, image: ImageSpec) -> tuple[Experiment, nn.Module]:
    torch.manual_seed(0)
    experiment = Experiment.model_validate({"dataset": {"source": "digits"}, "model": {"kind": kind}})
    statistics = PixelStatistics(mean=(0.5,) * 3, std=(0.25,) * 3)
    net = build(experiment.model, image, statistics, NUM_CLASSES)
    return experiment, net.to(memory_format=torch.channels_last)


def images_per_cpu_s(kind: str, image: ImageSpec, *, batch: int) -> float:
    experiment, net = network(kind, image)
    optimizer = build_optimizer(net, experiment.optimizer)
    set_rate(optimizer, 0.01)
    pixels = torch.randint(0, 256, (batch, image.height, image.width, image.channels), dtype=torch.uint8)
    labels = torch.randint(0, NUM_CLASSES, (batch,))
    began = 0.0
    for step in range(STEPS + 1):
        if step == 1:
            began = time.process_time()
        train_step(net, optimizer, pixels, labels, config=experiment.train)
    return STEPS * batch / (time.process_time() - began)


def measured(side: int, *, batch: int, repeats: int) -> list[dict[str, Any]]:
    image = ImageSpec(height=side, width=side, channels=3)
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(repeats):
        for kind, found in rates.items():
            found.append(images_per_cpu_s(kind, image, batch=batch))
            print(f"{side} px, {kind}: {found[-1]:,.0f}", file=sys.stderr, flush=True)
    return [
        {"side": side, "kind": kind, **cost(network(kind, image)[1], image)._asdict(), "rate": spread(rates[kind])}
        for kind in KINDS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, nargs="+", default=[32, 96], help="pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = [row for side in options.side for row in measured(side, batch=options.batch, repeats=options.repeats)]
    told = {"command": machine.command("zoo"), "batch": options.batch, "machine": machine.describe()}
    options.results.mkdir(exist_ok=True, parents=True)
    (options.results / "zoo.json").write_text(json.dumps({"rows": rows, **told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
