"""A data set whose right answer is known: bright pictures are class 1, dark ones class 0, 16 x 16, in memory."""

from pathlib import Path

import numpy as np
import pytest

from data.images import Images
from data.prepare import Dataset
from data.snapshot import Snapshot
from data.spec import ImageSpec
from data.split import Split
from data.validate import ValidationReport
from models.config import Experiment, TrainConfig
from models.training.config import AdamWConfig
from models.zoo.config import CNNConfig

SIDE = 16
TINY = CNNConfig(width=8)


def bright_and_dark(num: int, *, seed: int = 0, noise: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """pixels uint8 (num, 16, 16, 3), labels int64 (num,), alternating."""
    random = np.random.default_rng(seed)
    labels = np.arange(num, dtype=np.int64) % 2
    level = np.where(labels, 160.0, 90.0)[:, None, None, None]
    pixels = level + random.normal(0, noise, (num, SIDE, SIDE, 3))
    return pixels.clip(0, 255).astype(np.uint8), labels


def toy_dataset(num: int = 96) -> Dataset:
    pixels, labels = bright_and_dark(num)
    snapshot = Snapshot(
        name="toy",
        root=Path("nowhere"),
        classes=("dark", "bright"),
        files=tuple(f"{row}.png" for row in range(num)),
        labels=labels,
        digests=tuple(f"{row:064x}" for row in range(num)),
        sizes=np.ones(num, dtype=np.int64),
        parts=(None,) * num,
        mirror=True,
    )
    spec = ImageSpec(height=SIDE, width=SIDE, channels=3)
    images = Images(snapshot=snapshot, spec=spec, rows=np.arange(num), pixels=pixels, unreadable=())
    rows = np.arange(num)
    train, val, test = rows[: num // 2], rows[num // 2 : 3 * num // 4], rows[3 * num // 4 :]
    report = ValidationReport(
        name="toy",
        fingerprint="0" * 64,
        num_examples=num,
        num_unreadable=0,
        height=SIDE,
        width=SIDE,
        channels=3,
        classes=(),
        findings=(),
    )
    return Dataset(images=images, split=Split(train=train, val=val, test=test), report=report)


@pytest.fixture
def toy() -> Dataset:
    return toy_dataset()


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    return Experiment(
        name="tiny",
        model=TINY,
        optimizer=AdamWConfig(lr=3e-3),
        train=TrainConfig(epochs=3, batch_size=16, devices="cpu"),
    )
