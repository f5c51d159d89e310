"""This project's `fit` on the same network: pictures decoded once, augmented in batches.

Forms: `same`, with the bare loop's optimiser and precision and all else as by default (crop and flip, label smoothing,
gradient norms by layer, clipping, moving average of the weights); `defaults`, with Muon, and bfloat16 where the
processor multiplies in it. Both keep freed memory for the next step, as `trainserve run` does.
"""

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.network import resnet18_32
from data.augment import resolve
from data.loader import Pictures, TrainBatches
from data.prepare import prepare
from data.spec import AugmentConfig, DatasetSpec
from models.config import TrainConfig
from models.device import multiplies_bfloat16
from models.pixels import Pixels, measure
from models.training.allocation import keep_freed_memory
from models.training.config import CosineConfig, MuonConfig, SGDConfig
from models.training.fit import Validation, fit


class Timed:
    """The batches, and a validation that is not one: the clock runs from the first batch to the end of the epoch."""

    def __init__(self, batches: TrainBatches) -> None:
        self.clock, self.growing = Clock(), batches.growing
        self.steps_per_epoch = batches.steps_per_epoch
        self._batches = batches

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
        self.clock.start()
        return self._batches.epoch(epoch, start_step=start_step, done=done)

    def validate(self, _: nn.Module) -> Validation:
        self.clock.stop(self._batches.num_pictures)
        return Validation(loss=1.0 / len(self.clock.epochs), accuracy=0.0)


def main() -> None:
    keep_freed_memory()
    chosen = options(__doc__)
    same = chosen.form != "defaults"
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as home:
        dataset = prepare(DatasetSpec(source=str(chosen.folder.resolve()), size=32, channels=3), Path(home))
        images, rows = dataset.images, dataset.split.train
        network = resnet18_32(len(images.classes), chosen.stem)
        net = nn.Sequential(Pixels(images.spec, measure(images.pixels, rows)), network)
        batches = TrainBatches(
            Pictures(images.pixels),
            images.labels,
            rows,
            batch_size=chosen.batch,
            seed=0,
            image=images.spec,
            config=resolve(AugmentConfig(), images.spec, mirror=True, any_size=True),
            num_classes=len(images.classes),
        )
        timed = Timed(batches)
        optimizer = SGDConfig(lr=0.05) if same else MuonConfig()
        config = TrainConfig(epochs=chosen.epochs, devices="cpu", precision="float32" if same else "auto")
        done = fit(net, timed, timed.validate, optimizer=optimizer, schedule=CosineConfig(), config=config)
    wide = same or not multiplies_bfloat16(torch.device("cpu"))
    timed.clock.tell(
        "torch",
        "torchvision",
        loss=done.history[-1].train_loss,
        optimizer=type(optimizer).__name__.removesuffix("Config"),
        precision="float32" if wide else "bfloat16",
        trainserve=version("trainserve"),
    )


if __name__ == "__main__":
    main()
