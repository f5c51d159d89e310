"""CIFAR-10 as arrays: from an archive of JPEG files, or from the original pixels in their binary version.

The binary version (https://www.cs.toronto.edu/~kriz/cifar.html) is nothing but bytes: of each picture a label, then
planes of red, green and blue. The other versions are pickles and Matlab files, which could run code, and are not read.
"""

import math
import tarfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.spread import about
from data.preprocess import stored_pixels
from data.spec import ImageSpec

IMAGE = ImageSpec(height=32, width=32, channels=3)
NUM_CLASSES = 10
HELD_OUT = 10  # every tenth training picture of a class is validated on
RECORD = 1 + 3 * 32 * 32  # bytes of a picture in the binary version
Figures = dict[str, float]


class Cifar:
    """pixels uint8 (N, 32, 32, 3), labels int64 (N,), and which rows are tested on."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, tested: np.ndarray, *, train_on: int | None) -> None:
        """`train_on`: so many of the training pictures, evenly of all."""
        self.pixels, self.labels = pixels, labels
        self.test, train = np.flatnonzero(tested), np.flatnonzero(~tested)
        if train_on is not None:
            train = train[np.linspace(0, len(train) - 1, min(train_on, len(train))).astype(np.int64)]
        by_class = [train[labels[train] == label] for label in range(NUM_CLASSES)]
        self.all = train
        self.val = np.concatenate([rows[::HELD_OUT] for rows in by_class])
        self.train = np.setdiff1d(train, self.val)


def opened(archive: Path, cache: Path, *, train_on: int | None = None) -> Cifar:
    """Of train/CLASS/*.jpg and test/CLASS/*.jpg; decoded once, then from `cache`."""
    if not cache.exists():
        pixels, names, tested = zip(*decoded(archive), strict=True)
        classes = sorted(set(names))
        if len(classes) != NUM_CLASSES:
            raise SystemExit(f"{archive.name} has {len(classes)} classes; CIFAR-10 has {NUM_CLASSES}")
        labels = np.array([classes.index(name) for name in names], np.int64)
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_name(f"{cache.name}.part")
        with part.open("wb") as file:  # to a name, numpy would append .npz
            np.savez(file, pixels=np.stack(pixels), labels=labels, tested=np.array(tested))
        part.replace(cache)
    with np.load(cache, allow_pickle=False) as arrays:
        return Cifar(arrays["pixels"], arrays["labels"], arrays["tested"], train_on=train_on)


def decoded(archive: Path) -> Iterator[tuple[np.ndarray, str, bool]]:
    """Pixels, class, and whether it is tested on, of every picture."""
    with tarfile.open(archive) as packed:
        for member in packed:
            part, label = Path(member.name).parts[0], Path(member.name).parent.name
            if not member.isfile() or part not in ("train", "test"):
                continue
            file = packed.extractfile(member)
            assert file is not None
            yield stored_pixels(file.read(), IMAGE), label, part == "test"


def original(folder: Path, *, train_on: int | None = None) -> Cifar:
    """Of data_batch_1.bin and so on, and test_batch.bin."""
    files = [*sorted(folder.glob("data_batch_*.bin")), folder / "test_batch.bin"]
    if len(files) == 1 or not files[-1].exists():
        raise SystemExit(
            f"{folder} lacks data_batch_1.bin or test_batch.bin; unpack the binary version of CIFAR-10 there"
        )
    parts = [records(file) for file in files]
    bytes_, tested = np.concatenate(parts), np.repeat([False] * (len(parts) - 1) + [True], [len(p) for p in parts])
    pixels = bytes_[:, 1:].reshape(-1, 3, IMAGE.height, IMAGE.width).transpose(0, 2, 3, 1)
    return Cifar(np.ascontiguousarray(pixels), bytes_[:, 0].astype(np.int64), tested, train_on=train_on)


def records(file: Path) -> np.ndarray:
    """uint8 (N, RECORD)."""
    content = np.fromfile(file, np.uint8)
    if not len(content) or len(content) % RECORD or content[::RECORD].max() >= NUM_CLASSES:
        raise SystemExit(f"{file.name} is no file of CIFAR-10's binary version, whose pictures are {RECORD} bytes each")
    return content.reshape(-1, RECORD)


def price(runs: list[Figures], of_original: list[Figures], *, goal: float) -> dict[str, Any]:
    """What JPEG costs, what the goal, stated for the original pixels, is worth on JPEG, and the mean time to that; None
    where it was not reached."""
    here, there = (about([run["test_accuracy"] for run in some]) for some in (runs, of_original))
    costs = there["mean"] - here["mean"]
    seconds = mean(run["loop_and_test_s"] for run in runs)
    return {
        "original": {name: about([run[name] for run in of_original]) for name in of_original[0]},
        "costs": costs,
        "standard_error": math.sqrt(here["std"] ** 2 / here["n"] + there["std"] ** 2 / there["n"]),
        "equal_of_goal": goal - costs,
        "seconds_to_equal": seconds if here["mean"] >= goal - costs else None,
    }
