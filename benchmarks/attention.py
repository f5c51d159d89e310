"""Time and memory of every kind of attention, beside full attention, as the number of tokens grows.

    python -m benchmarks.attention [--device cuda] [--tokens 64 256 1024 4096] [--repeats 9]

One attention layer (norm, projections, mixing) of width 128 with 4 heads, with its options' defaults; a batch of as
many pictures as make 4,096 tokens. Precision is that of training: bfloat16 where the processor multiplies in it. On a
CPU: one thread, CPU seconds, freed memory kept as in training. On a GPU: time by its own clock. Each repeat measures
the variant and full attention one after the other, in changing order; the ratio is the median over the pairs. Memory is
what the pass takes beyond the weights and the input: on a CPU the growth of the resident set in a process of its own,
on a GPU the allocator's peak.

The figures go to benchmarks/results/attention-<device>.json, from which `benchmarks/render.py` makes results.md.
"""

import argparse
import ctypes
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import machine
from models.device import autocast, multiplies_bfloat16
from models.training.allocation import keep_freed_memory
from models.zoo.attention.clustered import Clustered
from models.zoo.attention.full import Full
from models.zoo.attention.grid import Grid
from models.zoo.attention.layer import Attention, Mix
from models.zoo.attention.linear import Linear
from models.zoo.attention.linformer import Linformer
from models.zoo.attention.local import Local
from models.zoo.attention.sinkhorn import Sinkhorn
from models.zoo.attention.special import Special
from models.zoo.attention.strided import Strided
from models.zoo.attention.synthesizer import Dense, Fixed

RESULTS = Path(__file__).parent / "results"
DIM, HEADS = 128, 4
WIDTH = DIM // HEADS
TOKENS_IN_A_BATCH = 4096
M_MMAP_THRESHOLD = -3  # of glibc's mallopt

Figures = dict[str, float]
Pass = Literal["forward", "forward and backward"]
PASSES: tuple[Pass, ...] = ("forward", "forward and backward")


class Fused(Mix):
    """What `attend` would be if it did not choose."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


def mixes(grid: Grid) -> dict[str, Callable[[], Mix]]:
    return {
        "full": Full,
        "full, torch's fused": Fused,
        "local": lambda: Local(grid, heads=HEADS, window=5),
        "strided": lambda: Strided(grid),
        "global": lambda: Special(grid),
        "clustered": lambda: Clustered(grid, heads=HEADS, width=WIDTH),
        "sinkhorn": lambda: Sinkhorn(grid, heads=HEADS, width=WIDTH),
        "linformer": lambda: Linformer(grid, rank=32),
        "linear": lambda: Linear(width=WIDTH),
        "linear, random features": lambda: Linear(width=WIDTH, feature_map="random"),
        "synthesizer, dense": lambda: Dense(grid, heads=HEADS, width=WIDTH),
        "synthesizer, random": lambda: Fixed(grid, heads=HEADS),
    }


class Case:
    """One layer and its input, and what is done with them again and again."""

    def __init__(self, name: str, tokens: int, device: torch.device) -> None:
        side = math.isqrt(tokens)
        if side * side != tokens:
            raise SystemExit(f"{tokens} tokens make no square; use 64, 256, 1024, 4096")
        torch.manual_seed(0)
        grid = Grid(side, side, extra=4 if name == "global" else 0)
        self.layer = Attention(DIM, HEADS, mixes(grid)[name]()).to(device)
        self.x = torch.randn(max(1, TOKENS_IN_A_BATCH // tokens), grid.tokens, DIM, device=device)
        self.device = device

    def forward(self) -> Tensor:
        with autocast(self.device, "auto"):
            y: Tensor = self.layer(self.x)
        return y

    def run(self, what: Pass) -> None:
        if what == "forward":
            self.layer.eval()
            with torch.no_grad():
                self.forward()
        else:
            self.layer.train()
            self.layer.zero_grad()
            self.forward().float().square().mean().backward()


def seconds(case: Case, what: Pass, *, least_s: float) -> float:
    """Of one pass; as many are run as take `least_s` together."""
    if case.device.type == "cuda":
        return gpu_seconds(case, what, least_s=least_s)
    count, start = 0, time.process_time()
    while True:
        case.run(what)
        count += 1
        spent = time.process_time() - start
        if spent >= least_s:
            return spent / count


def gpu_seconds(case: Case, what: Pass, *, least_s: float) -> float:
    count = 8
    while True:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            case.run(what)
        end.record()
        torch.cuda.synchronize()
        total = start.elapsed_time(end) / 1e3
        if total >= least_s:
            return total / count
        count *= 4


def timed(name: str, tokens: int, device: torch.device, what: Pass, *, repeats: int, least_s: float) -> Figures:
    """Milliseconds, and the ratio to full attention's in the same pair."""
    if device.type == "cpu":
        keep_freed_memory()
    variant, full = Case(name, tokens, device), Case("full", tokens, device)
    variant.run(what)  # warm
    full.run(what)
    pairs = []
    for repeat in range(repeats):
        order = (variant, full) if repeat % 2 else (full, variant)
        took = {case: seconds(case, what, least_s=least_s) for case in order}
        pairs.append((took[variant], took[full]))
    return {
        "ms": 1e3 * median(mine for mine, _ in pairs),
        "of_full": median(mine / theirs for mine, theirs in pairs),
    }


def memory(name: str, tokens: int, device: torch.device, what: Pass) -> Figures:
    """MiB that a pass takes at its peak."""
    if device.type == "cpu":  # what is freed goes back to the system at once, and shows when it is taken again
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
    case = Case(name, tokens, device)
    case.run(what)  # workspaces are made, and libraries loaded, at the first use
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case.run(what)
        torch.cuda.synchronize()
        return {"mib": (torch.cuda.max_memory_allocated() - before) / 2**20}
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    case.run(what)
    return {"mib": (resident("VmHWM") - before) / 2**10}


def resident(field: str) -> int:
    """KiB, from Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise SystemExit("memory is measured on Linux only")


def apart(measure: Callable[[], Figures]) -> Figures:
    """In a fork of this process, which has imported torch and run nothing of it, with one thread."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)

    def tell() -> None:
        torch.set_num_threads(1)
        theirs.send(measure())

    child = fork.Process(target=tell)
    child.start()
    theirs.close()
    figures: Figures = ours.recv()
    child.join()
    return figures


def measured(name: str, tokens: int, device: torch.device, *, repeats: int, least_s: float) -> dict[Pass, Figures]:
    passes: dict[Pass, Figures] = {}
    alone = apart if device.type == "cpu" else here
    for what in PASSES:
        figures = alone(partial(timed, name, tokens, device, what, repeats=repeats, least_s=least_s))
        passes[what] = figures | alone(partial(memory, name, tokens, device, what))
    return passes


def here(measure: Callable[[], Figures]) -> Figures:
    return measure()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--least", type=float, default=0.2, help="seconds that each measurement takes at least")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    device = torch.device(options.device)
    rows = []
    for tokens in options.tokens:
        for name in mixes(Grid(8, 8)):
            passes = measured(name, tokens, device, repeats=options.repeats, least_s=options.least)
            rows.append({"tokens": tokens, "attention": name, "passes": passes})
            print(f"{tokens} {name}: {passes}", file=sys.stderr)
    result = {
        "command": machine.command("attention"),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "one thread",
        "precision": "bfloat16" if multiplies_bfloat16(device) else "float32",
        "layer": {"dim": DIM, "heads": HEADS, "tokens_in_a_batch": TOKENS_IN_A_BATCH},
        "rows": rows,
        "machine": machine.describe(),
    }
    options.results.mkdir(exist_ok=True)
    (options.results / f"attention-{device}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
