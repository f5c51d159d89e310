"""Times of epochs, and the line that tells them."""

import argparse
import json
import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

FIGURES = ("wall_s", "cpu_s", "kernel_s", "page_faults")


@dataclass
class Clock:
    """Wall seconds, CPU seconds of all threads of this process and of its children; and of this process the
    part that the kernel took, with the page faults, which are most of it: memory given back and taken again."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    began: tuple[float, ...] = ()

    def start(self) -> None:
        self.began = now()

    def stop(self, images: int) -> None:
        took = (after - before for after, before in zip(now(), self.began, strict=True))
        self.epochs.append({"images": images, **dict(zip(FIGURES, took, strict=True))})

    def tell(self, *packages: str, **settings: object) -> None:
        told = {"epochs": self.epochs, "versions": {name: version(name) for name in packages}, "settings": settings}
        print("\n" + json.dumps(told), flush=True)


def now() -> tuple[float, ...]:
    """In the order of FIGURES."""
    times, usage = os.times(), resource.getrusage(resource.RUSAGE_SELF)
    cpu = time.process_time() + times.children_user + times.children_system + of_living_children()
    return time.perf_counter(), cpu, usage.ru_stime, usage.ru_minflt


def of_living_children() -> float:
    """CPU seconds; nothing where there is no /proc."""
    seconds = 0.0
    for told in Path("/proc/self/task").glob("*/children"):
        for child in told.read_text().split():
            with suppress(OSError):  # it has ended
                figures = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                seconds += sum(map(int, figures[11:13])) / os.sysconf("SC_CLK_TCK")
    return seconds


def options(description: str | None) -> argparse.Namespace:
    """folder, epochs, batch, form, stem."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--form", default="", help="which of several ways, where a program has them")
    parser.add_argument("--stem", choices=("small", "published"), default="small", help="of the network")
    return parser.parse_args()
