"""The product's own split as folders, so that others train and are tested on the same pictures."""

from collections import Counter
from pathlib import Path

import numpy as np

from data.prepare import Dataset


def lay_out(dataset: Dataset, folder: Path, *, per_class: int | None = None) -> dict[str, int]:
    """train/CLASS and test/CLASS of links to the pictures; says how many each part has.

    Train has what the product trains on and what it chooses by. `per_class` pictures of each class at most, in each.
    """
    parts = {"train": dataset.split.development, "test": dataset.split.test}
    return {part: link(dataset, rows, folder / part, per_class=per_class) for part, rows in parts.items()}


def link(dataset: Dataset, rows: np.ndarray, folder: Path, *, per_class: int | None) -> int:
    images, taken = dataset.images, Counter[str]()
    for row in rows.tolist():
        label, file = images.classes[images.labels[row]], images.path(row)
        if per_class is not None and taken[label] >= per_class:
            continue
        taken[label] += 1
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{row:06}{file.suffix}").symlink_to(file.resolve())  # names may repeat in other folders
    return taken.total()
