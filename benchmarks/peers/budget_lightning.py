"""Lightning with a budget, as its CIFAR-10 tutorial trains: SGD, OneCycleLR stepped by batch, crop and flip.

https://lightning.ai/docs/pytorch/stable/notebooks/lightning_examples/cifar10-baseline.html. Its tutorial takes half as
many workers as cores; they are kept between epochs, as its trainer advises.
"""

import logging
import os
import tempfile
import time

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.peers.budget import Pilot, options, tell
from benchmarks.peers.network import PADDING, SIDE, resnet18_of, statistics

LR, PEAK, WEIGHT_DECAY = 0.05, 0.1, 5e-4
WORKERS = max(1, (os.cpu_count() or 1) // 2)
SMALLEST = 0.25  # of a photograph's area; torchvision's 0.08 is for hundreds of epochs


class Classifier(L.LightningModule):
    def __init__(self, side: int, num_classes: int) -> None:
        super().__init__()
        self.net: nn.Module = resnet18_of(side, num_classes)
        self.images, self.correct, self.n = 0, 0, 0

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        pixels, targets = batch
        self.images += len(targets)
        return F.cross_entropy(self.net(pixels), targets)

    def test_step(self, batch: tuple[Tensor, Tensor], *_: object) -> None:
        pixels, targets = batch
        self.correct += int((self.net(pixels).argmax(1) == targets).sum())
        self.n += len(targets)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.parameters(), lr=LR, momentum=0.9, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, PEAK, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Watch(L.Callback):
    """Ends a pilot when it has seen enough."""

    def __init__(self, pilot: Pilot) -> None:
        self.pilot = pilot

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        trainer.should_stop = self.pilot.step()


def loader_of(part: str, *, folder: str, side: int, batch: int) -> DataLoader:
    train, small = part == "train", side == SIDE
    cut = [] if small else [v2.Resize(round(side / 0.875)), v2.CenterCrop(side)]
    if train:
        crop = v2.RandomCrop(side, padding=PADDING) if small else v2.RandomResizedCrop(side, scale=(SMALLEST, 1.0))
        cut = [crop, v2.RandomHorizontalFlip()]
    as_numbers = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*statistics(side))]
    dataset = ImageFolder(f"{folder}/{part}", transform=v2.Compose([*cut, *as_numbers]))
    return DataLoader(dataset, batch_size=batch, shuffle=train, num_workers=WORKERS, persistent_workers=True)


def main() -> None:
    chosen = options(__doc__)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    shared = {"folder": str(chosen.folder), "side": chosen.side, "batch": chosen.batch}
    loader = loader_of("train", **shared)
    num_classes, pilot = len(loader.dataset.classes), Pilot(chosen.seconds)
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as folder:
        as_usual = {"accelerator": "cpu", "default_root_dir": folder}
        L.Trainer(max_epochs=1000, callbacks=[Watch(pilot)], **as_usual).fit(
            Classifier(chosen.side, num_classes), loader
        )
        plan = pilot.plan(steps_per_epoch=len(loader))
        L.seed_everything(chosen.seed)
        net = Classifier(chosen.side, num_classes)
        trainer = L.Trainer(max_epochs=plan.epochs, limit_train_batches=plan.steps, **as_usual)
        began = time.perf_counter()
        trainer.fit(net, loader)
        seconds = time.perf_counter() - began
        trainer.test(net, loader_of("test", **shared), verbose=False)
    padded = f"crop of a padding of {PADDING}"
    tell(
        "lightning",
        plan=plan,
        pilot=pilot,
        seconds=seconds,
        images=net.images,
        correct=net.correct,
        n=net.n,
        side=chosen.side,
        optimizer=f"SGD, decay {WEIGHT_DECAY}",
        schedule=f"OneCycleLR to {PEAK}",
        loss="cross-entropy",
        augmentation=f"{padded if chosen.side == SIDE else f'random resized crop from {SMALLEST} of the area'}, flip",
        workers=WORKERS,
    )


if __name__ == "__main__":
    main()
