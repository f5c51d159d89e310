"""What the programs with a budget of minutes share: the pilot that times a step, how often to train, the answer.

`python -m benchmarks.peers.budget_NAME FOLDER --seconds 300 --side 32`, from the environment that has the library.
FOLDER holds train/CLASS/* and test/CLASS/*. Pictures are 32 px, as they are stored, or photographs, cut to `side`.
The last line on standard output is one JSON object, as `tell` makes it.

What is the same everywhere: ResNet-18 as in `network.py`, batches of 64, float32, training on all of train/ without a
look at test/. What is each library's own: reading, how the pictures are changed, loss, optimiser, schedule, workers.
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

WARM_UP = 3  # steps of a pilot that do not count
LEAST, MOST = 5, 40  # steps of a pilot that do
SHARE = 0.1  # of the budget, after which a pilot ends once it has the least


@dataclass(frozen=True)
class Plan:
    epochs: int
    steps: int  # in each epoch
    whole: int  # what a whole epoch has

    @property
    def epochs_trained(self) -> float:
        """Less than 1 where one epoch was shortened."""
        return round(self.epochs * self.steps / self.whole, 2)

    @property
    def words(self) -> str:
        if self.steps == self.whole:
            return f"{self.epochs} whole"
        return f"one, shortened to {self.steps} of {self.whole} steps because a whole one did not fit"


def plan(budget_s: float, *, step_s: float, steps_per_epoch: int) -> Plan:
    """As many whole epochs as fit; where not even one does, one of as many steps as fit. At least one step."""
    epochs = int(budget_s / (step_s * steps_per_epoch))
    if epochs:
        return Plan(epochs, steps_per_epoch, steps_per_epoch)
    return Plan(1, max(1, int(budget_s / step_s)), steps_per_epoch)


@dataclass
class Pilot:
    """A short training, of a network that is then thrown away, which says how long one step takes."""

    budget_s: float
    ends: list[float] = field(default_factory=list)  # of each step, seconds

    def step(self) -> bool:
        """To be called at the end of each step; True once there are enough."""
        self.ends.append(time.perf_counter())
        return self.enough

    @property
    def enough(self) -> bool:
        counted = len(self.ends) - WARM_UP
        return counted >= MOST or (counted >= LEAST and self.ends[-1] - self.ends[0] > SHARE * self.budget_s)

    @property
    def step_s(self) -> float:
        return (self.ends[-1] - self.ends[WARM_UP - 1]) / (len(self.ends) - WARM_UP)

    def plan(self, *, steps_per_epoch: int) -> Plan:
        return plan(self.budget_s, step_s=self.step_s, steps_per_epoch=steps_per_epoch)


def options(description: str | None) -> argparse.Namespace:
    """folder, seconds, side, batch, seed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True, help="of training")
    parser.add_argument("--side", type=int, required=True, help="pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def tell(
    *packages: str, plan: Plan, pilot: Pilot, seconds: float, images: int, correct: int, n: int, **settings: object
) -> None:
    """`seconds` of training alone and the `images` trained on in them; `correct` of `n` test pictures."""
    told = {
        "epochs": plan.epochs_trained,
        "seconds": seconds,
        "images_per_s": images / seconds,
        "correct": correct,
        "n": n,
        "versions": {name: version(name) for name in (*packages, "torch", "torchvision")},
        "settings": settings
        | {
            "precision": "float32",
            "epochs": plan.words,
            "pilot step s": pilot.step_s,
            "threads": torch.get_num_threads(),
        },
    }
    print("\n" + json.dumps(told), flush=True)
