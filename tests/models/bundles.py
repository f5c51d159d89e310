"""A small network, a few pictures and a run's figures, all made by hand: what export needs, without training."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from data.images import Images
from data.preprocess import stored_pixels
from data.snapshot import Snapshot
from data.spec import ImageSpec
from models.bundle.export import write_bundle
from models.config import Experiment, ReleaseConfig
from models.evaluation.metrics import score
from models.records import Calibration, FitSummary, Lineage, PixelStatistics, RunResult

IMAGE = ImageSpec(height=12, width=16, channels=3, margin=2)
CLASSES = ("ant", "bee", "cat", "dog")
STATISTICS = PixelStatistics(mean=(0.45, 0.5, 0.4), std=(0.25, 0.2, 0.3))
IMAGENET = PixelStatistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TEMPERATURE = 1.5


class Tiny(nn.Module):
    """uint8 (B, H, W, C) -> logits (B, K): fixed random weights, large enough for answers to differ by picture."""

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: PixelStatistics = STATISTICS) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean))
        self.register_buffer("std", torch.tensor(statistics.std))
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, len(CLASSES))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, pixels: Tensor) -> Tensor:
        x = ((pixels.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        x = torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3))
        logits: Tensor = self.head(x)
        return logits


def toy_images(root: Path, *, per_class: int = 6) -> Images:
    """Pictures of 40 x 30, a colour gradient and noise for each class; every third one a JPEG."""
    random = np.random.default_rng(0)
    files, labels = [], []
    for k, label in enumerate(CLASSES):
        (root / label).mkdir(parents=True)
        for i in range(per_class):
            ramp = np.linspace(0, 255, 40)[None, :, None] * np.roll([1.0, 0.6, 0.2], k)
            noise = random.uniform(-60, 60, (30, 40, 3))
            pixels = np.clip(ramp + noise + 10 * k, 0, 255).astype(np.uint8)
            files.append(f"{label}/{i}.{'jpg' if i % 3 == 2 else 'png'}")
            Image.fromarray(pixels).save(root / files[-1])
            labels.append(k)
    n = len(files)
    snapshot = Snapshot(
        name="toy",
        root=root,
        classes=CLASSES,
        files=tuple(files),
        labels=np.array(labels, dtype=np.int64),
        digests=tuple(f"{i:064x}" for i in range(n)),
        sizes=np.array([(root / file).stat().st_size for file in files], dtype=np.int64),
        parts=(None,) * n,
        mirror=True,
    )
    pixels = np.stack([stored_pixels(root / file, IMAGE) for file in files])
    return Images(snapshot=snapshot, spec=IMAGE, rows=np.arange(n), pixels=pixels, unreadable=())


def toy_result(*, parity: float = 1e-3) -> RunResult:
    """What run.json would hold."""
    metrics = score(np.eye(len(CLASSES)) * 0.6 + 0.1, np.arange(len(CLASSES)), CLASSES)
    return RunResult(
        run_id="20261121-120000-toy",
        experiment=Experiment(release=ReleaseConfig(parity=parity)),
        image=IMAGE,
        statistics=STATISTICS,
        classes=CLASSES,
        fit=FitSummary(
            epochs_planned=2,
            epochs_run=2,
            best_epoch=1,
            stopped_early=False,
            seconds=1.0,
            images_per_s=100.0,
            parameters=268,
            device="cpu",
        ),
        validation=metrics,
        test=metrics,
        calibration=Calibration(temperature=TEMPERATURE, ece_before=0.2, ece_after=0.1),
        crossval=None,
        lineage=Lineage(run_id="20261121-120000-toy", fingerprint="0" * 64, commit=None),
        versions={"python": "3.11"},
        flops=1234,
    )


def toy_bundle(target: Path, images: Images, network: nn.Module | None = None, *, parity: float = 1e-3) -> Path:
    """Exported like any other; half of the pictures count as the test split."""
    network = network or Tiny().eval()
    test = np.arange(0, len(images.rows), 2)
    return write_bundle(target, network=network, result=toy_result(parity=parity), images=images, test=test)
