"""Folders of JPEGs to train on: PART/CLASS/NUMBER.jpg, from an archive or made up."""

import tarfile
from collections import Counter
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
HELD_OUT = 20  # of each class, in val and in test, which no benchmark of speed looks at
QUALITY = 90


def folder_of(folder: Path, *, per_class: int, side: int = 32, archive: Path | None = None) -> str:
    """Fills `folder` with `per_class` training pictures of each class (ten if made up); says what they are."""
    wanted = {"train": per_class, "val": HELD_OUT, "test": HELD_OUT}
    if archive is None:
        random = np.random.default_rng(0)
        for part, count in wanted.items():
            for number in range(CLASSES * count):
                save(invented(random, number % CLASSES, side), folder / part / f"class{number % CLASSES}", number)
        return f"made up, {side} px"
    unpack(archive, folder, wanted)
    return archive.name


def invented(random: np.random.Generator, label: int, side: int) -> Image.Image:
    """A few soft blots and noise, brighter by class: about as many bytes as a photograph of this size."""
    blots = random.integers(0, 200, (5, 5, 3)) + 5 * label
    soft = np.asarray(Image.fromarray(blots.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC), float)
    return Image.fromarray((soft + random.normal(0, 8, soft.shape)).clip(0, 255).astype(np.uint8))


def save(picture: Image.Image, folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture.save(folder / f"{number:05}.jpg", quality=QUALITY)


def unpack(archive: Path, folder: Path, wanted: dict[str, int]) -> None:
    """The first pictures of each class of an archive of CLASS/*.jpg, whatever lies above: those to train on first."""
    seen: Counter[str] = Counter()
    with tarfile.open(archive) as packed:
        for member in packed:
            label, number = Path(member.name).parent.name, seen[Path(member.name).parent.name]
            if not member.isfile() or not member.name.endswith(".jpg") or number >= sum(wanted.values()):
                continue
            seen[label] += 1
            part = next(part for part, upto in zip(wanted, accumulate(wanted.values()), strict=True) if number < upto)
            target = folder / part / label / Path(member.name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            file = packed.extractfile(member)
            assert file is not None
            target.write_bytes(file.read())
