"""Times of epochs, and the line that tells them."""

import argparse
import json
import os
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path


@dataclass
class Clock:
    """Wall seconds, and CPU seconds of all threads of this process and of children that have ended."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    began: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        self.began = now()

    def stop(self, images: int) -> None:
        wall, cpu = now()
        self.epochs.append({"images": images, "wall_s": wall - self.began[0], "cpu_s": cpu - self.began[1]})

    def tell(self, *packages: str, **settings: object) -> None:
        told = {"epochs": self.epochs, "versions": {name: version(name) for name in packages}, "settings": settings}
        print("\n" + json.dumps(told), flush=True)


def now() -> tuple[float, float]:
    times = os.times()
    return time.perf_counter(), time.process_time() + times.children_user + times.children_system


def options(description: str | None) -> argparse.Namespace:
    """folder, epochs, batch, form."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--form", default="", help="which of several ways, where a program has them")
    return parser.parse_args()
