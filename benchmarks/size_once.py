"""One process of `benchmarks.size`: a data set is prepared, and with --train some steps are trained on it.

    python -m benchmarks.size_once FOLDER HOME [--train]

Each stage's name is printed as it begins, as JSON, and again when one that it called has ended; last of all a list of
what each took: its seconds and CPU seconds without those of the stages that it called, the most that the process ever
had resident while it was under way, and the private memory that it had at its ends.
"""

import argparse
import json
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from data import digests, images, snapshot, split, validate
from data.gate import judge, near, quality, quarantine
from data.history import since
from data.prepare import Dataset, prepare
from data.sources import gathered
from data.spec import DatasetSpec

STEPS, BATCH = 20, 64

STAGES: tuple[tuple[str, ModuleType, str], ...] = (
    ("list", gathered, "listings"),
    ("hash", digests, "of_files"),
    ("snapshot", snapshot, "take"),
    ("rules of the listing", validate, "check_listing"),
    ("decode", images, "build"),
    ("sizes", quality, "sizes"),
    ("looks", quality, "looks"),
    ("hashes of near copies", near, "hashes"),
    ("pairs of near copies", near, "pairs"),
    ("rules of the pictures", validate, "check_images"),
    ("split", split, "assign"),
    ("rules of the parts", validate, "check_parts"),
    ("what is dropped", judge, "carried_out"),
    ("rules of the split", validate, "check_split"),
    ("quarantine list", quarantine, "update"),
    ("record and comparison", since, "told"),
)
OTHER, STEPPING = "all else of prepare", "training steps"


class Stages:
    """Seconds and resident memory, by the stage that is under way; one within another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.resident: dict[str, int] = defaultdict(int)
        self.private: dict[str, int] = defaultdict(int)
        self._under_way: list[str] = []
        self._since = time.perf_counter(), _cpu()

    def of(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            self._turn()
            self._under_way.append(name)
            self._say()
            try:
                return function(*arguments, **named)
            finally:
                self._turn()
                self._under_way.pop()
                self._say()

        return timed

    def _turn(self) -> None:
        now = time.perf_counter(), _cpu()
        if self._under_way:
            name = self._under_way[-1]
            self.seconds[name] += now[0] - self._since[0]
            self.cpu[name] += now[1] - self._since[1]
            self.resident[name] = max(self.resident[name], _status("VmHWM"))
            self.private[name] = max(self.private[name], _status("RssAnon"))
        self._since = now

    def _say(self) -> None:
        if self._under_way:
            print(json.dumps(self._under_way[-1]), flush=True)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew


def _cpu() -> float:
    """Seconds, those of the processes that it started and that have ended among them."""
    used = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _status(name: str) -> int:
    """Bytes: `VmHWM`, resident at most since the mark was last begun anew; `RssAnon`, private now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def trained(dataset: Dataset) -> None:
    """What a run does before its first step, and `STEPS` of them."""
    from data.loader import Pictures
    from models.config import Experiment
    from models.training.learn import learner_for
    from models.training.optim import build_optimizer, set_rate
    from models.training.step import train_step

    experiment = Experiment.model_validate({"dataset": {"source": "digits"}, "train": {"batch_size": BATCH}})
    pictures = Pictures(dataset.images.pixels)
    learner = learner_for(
        experiment, dataset.images, pictures, train=dataset.split.train, val=dataset.split.val, seed=0
    )
    optimizer = build_optimizer(learner.net, experiment.optimizer)
    set_rate(optimizer, 0.01)
    for _, batch in zip(range(STEPS), learner.batches.epoch(0), strict=False):
        train_step(learner.net, optimizer, batch.pixels, batch.targets, config=experiment.train)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    stages = Stages()
    for name, module, function in STAGES:
        setattr(module, function, stages.of(name, getattr(module, function)))
    dataset = stages.of(OTHER, prepare)(DatasetSpec(source=str(options.folder)), options.home)
    if options.train:
        stages.of(STEPPING, trained)(dataset)
    told = [
        {
            "stage": name,
            "seconds": seconds,
            "cpu": stages.cpu[name],
            "resident": stages.resident[name],
            "private": stages.private[name],
        }
        for name, seconds in stages.seconds.items()
    ]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
