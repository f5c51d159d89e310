"""The classification sets of torchvision.datasets -> train|val|test/<class>/ picture files, written once.

torchvision does the download and checks it; a file put by hand where it looks is used instead.
"""

import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from PIL import Image

from data import progress as progress_
from data import whole
from data.errors import DownloadError
from data.progress import Progress
from data.spec import Part

Examples = Sequence[tuple[Image.Image | Path, int]]
"""What torchvision's classes are: (picture, label) by index; the path where the set is made of files."""

SILENCE_S = 60.0  # torchvision sets no time-out of its own


@dataclass(frozen=True)
class TorchvisionSet:
    """How one set is opened. `open` downloads below its folder and raises OSError or RuntimeError if it cannot."""

    open: Callable[[Path], tuple[dict[Part, Examples], Sequence[str]]]  # folder -> examples of each part, class names
    files: tuple[str, ...]  # what torchvision looks for below the folder before it downloads
    mirror: bool = True
    upright: bool = True  # False: stored with rows and columns exchanged


def write(
    data_set: TorchvisionSet, target: Path, *, name: str, downloads: Path, progress: Progress = progress_.ignore
) -> Path:
    """`target/<part>/<class>/<number>.<png or the file's own suffix>`, unless it is there. Raises `DownloadError`."""
    with whole.locked(target):
        if target.exists():
            return target
        progress(f"fetching {name}", 0, 0)
        try:
            with _unfinished(downloads, data_set.files), _time_out(SILENCE_S):
                parts, classes = data_set.open(downloads)
        except (OSError, RuntimeError, HTTPException) as error:
            raise DownloadError(_remedy(data_set, name, downloads, error)) from None
        names = [class_name.replace("/", "-").strip() for class_name in classes]  # "T-shirt/top"
        with whole.folder(target) as folder:
            for part, examples in parts.items():
                _write_part(examples, names, folder / part, data_set.upright, progress)
    return target


def _write_part(examples: Examples, names: Sequence[str], folder: Path, upright: bool, progress: Progress) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
    for i in range(len(examples)):
        picture, label = examples[i]
        if isinstance(picture, Path):
            _link(picture, folder / names[label] / f"{i:06d}{picture.suffix.lower()}")
        else:
            turned = picture if upright else picture.transpose(Image.Transpose.TRANSPOSE)
            turned.save(folder / names[label] / f"{i:06d}.png")
        if i % 500 == 0:
            progress(f"writing {folder.name}", i, len(examples))
    for name in names:
        if not any((folder / name).iterdir()):  # EMNIST's "N/A"
            (folder / name).rmdir()


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name, without a second copy where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def _unfinished(downloads: Path, files: tuple[str, ...]) -> Iterator[None]:
    """Many of torchvision's classes take a folder that is there for a whole one. So what an interrupted
    run unpacked is removed before the next; the archives stay, torchvision checks them by itself."""
    downloads.mkdir(parents=True, exist_ok=True)
    mark = downloads / ".unfinished"
    if mark.exists():
        keep = {downloads / file for file in files} | {mark}
        for path in sorted(downloads.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in keep:
                path.unlink()
    mark.touch()
    yield
    mark.unlink()


def _remedy(data_set: TorchvisionSet, name: str, downloads: Path, error: Exception) -> str:
    reason = " ".join((str(error) or type(error).__name__).split())[:200]
    return (
        f"{name} could not be downloaded ({reason}); check the network and run again, "
        f"or put {' '.join(data_set.files)} into {downloads}"
    )


@contextmanager
def _time_out(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _by_train(kind: str, **options: Any) -> Callable[[Path], tuple[dict[Part, Examples], Sequence[str]]]:
    """Sets opened with train=True and train=False."""

    def open_set(folder: Path) -> tuple[dict[Part, Examples], Sequence[str]]:
        from torchvision import datasets  # late: imports torch

        make = getattr(datasets, kind)
        train = make(folder, train=True, download=True, **options)
        return {Part.TRAIN: train, Part.TEST: make(folder, train=False, download=True, **options)}, train.classes

    return open_set


def _by_split(
    kind: str, splits: dict[Part, str], classes: Sequence[str] | None = None, **options: Any
) -> Callable[[Path], tuple[dict[Part, Examples], Sequence[str]]]:
    """Sets opened with split=...; `classes` where torchvision has no names."""

    def open_set(folder: Path) -> tuple[dict[Part, Examples], Sequence[str]]:
        from torchvision import datasets

        make = getattr(datasets, kind)
        parts = {part: make(folder, split=split, download=True, **options) for part, split in splits.items()}
        return parts, classes or parts[Part.TRAIN].classes

    return open_set


def _eurosat(folder: Path) -> tuple[dict[Part, Examples], Sequence[str]]:
    from torchvision import datasets

    examples = datasets.EuroSAT(folder, download=True, loader=Path)
    return {Part.TRAIN: examples}, examples.classes


def _idx(folder: str) -> tuple[str, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(f"{folder}/raw/{name}-ubyte.gz" for name in names)


TRAIN_TEST = {Part.TRAIN: "train", Part.TEST: "test"}
TRAIN_VAL = {Part.TRAIN: "train", Part.VAL: "val"}
ALL_PARTS = {Part.TRAIN: "train", Part.VAL: "val", Part.TEST: "test"}
DIGITS = tuple("0123456789")

SETS: dict[str, TorchvisionSet] = {
    "cifar10": TorchvisionSet(_by_train("CIFAR10"), ("cifar-10-python.tar.gz",)),
    "cifar100": TorchvisionSet(_by_train("CIFAR100"), ("cifar-100-python.tar.gz",)),
    "mnist": TorchvisionSet(_by_train("MNIST"), _idx("MNIST"), mirror=False),
    "fashion-mnist": TorchvisionSet(_by_train("FashionMNIST"), _idx("FashionMNIST")),
    "kmnist": TorchvisionSet(_by_train("KMNIST"), _idx("KMNIST"), mirror=False),
    # The letters, upper and lower case as one: folders "a" and "A" are the same folder on some disks.
    "emnist": TorchvisionSet(
        _by_train("EMNIST", split="letters"), ("EMNIST/raw/gzip.zip",), mirror=False, upright=False
    ),
    "svhn": TorchvisionSet(_by_split("SVHN", TRAIN_TEST, DIGITS), ("train_32x32.mat", "test_32x32.mat"), mirror=False),
    "stl10": TorchvisionSet(_by_split("STL10", TRAIN_TEST), ("stl10_binary.tar.gz",)),
    "flowers102": TorchvisionSet(
        _by_split("Flowers102", ALL_PARTS, loader=Path),
        tuple(f"flowers-102/{name}" for name in ("102flowers.tgz", "imagelabels.mat", "setid.mat")),
    ),
    "food101": TorchvisionSet(_by_split("Food101", TRAIN_TEST, loader=Path), ("food-101.tar.gz",)),
    "dtd": TorchvisionSet(_by_split("DTD", ALL_PARTS, loader=Path), ("dtd/dtd-r1.0.1.tar.gz",)),
    "fgvc-aircraft": TorchvisionSet(_by_split("FGVCAircraft", ALL_PARTS, loader=Path), ("fgvc-aircraft-2013b.tar.gz",)),
    "oxford-iiit-pet": TorchvisionSet(
        _by_split("OxfordIIITPet", {Part.TRAIN: "trainval", Part.TEST: "test"}),
        ("oxford-iiit-pet/images.tar.gz", "oxford-iiit-pet/annotations.tar.gz"),
    ),
    "gtsrb": TorchvisionSet(
        _by_split("GTSRB", TRAIN_TEST, tuple(str(label) for label in range(43))),
        tuple(f"gtsrb/GTSRB{name}.zip" for name in ("-Training_fixed", "_Final_Test_Images", "_Final_Test_GT")),
        mirror=False,
    ),
    "country211": TorchvisionSet(
        _by_split("Country211", {Part.TRAIN: "train", Part.VAL: "valid", Part.TEST: "test"}, loader=Path),
        ("country211.tgz",),
    ),
    "rendered-sst2": TorchvisionSet(
        _by_split("RenderedSST2", ALL_PARTS, loader=Path), ("rendered-sst2.tgz",), mirror=False
    ),
    "eurosat": TorchvisionSet(_eurosat, ("eurosat/EuroSAT.zip",)),
}
