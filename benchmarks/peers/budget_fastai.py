"""fastai with a budget: a data block, `aug_transforms`, a Learner and `fit_one_cycle`, as its book trains from scratch.

https://docs.fast.ai/vision.augment.html, https://docs.fast.ai/tutorial.imagenette.html,
https://github.com/fastai/fastbook/blob/master/07_sizing_and_tta.ipynb, whose rate this is. Workers as by default: as
many as cores.
"""

import random
import time
from pathlib import Path

from fastai.callback.core import CancelFitException
from fastai.callback.schedule import Learner  # with fit_one_cycle
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import IndexSplitter, Normalize, get_image_files, parent_label
from fastai.learner import Callback
from fastai.torch_core import set_seed
from fastai.vision.augment import RandomResizedCrop, aug_transforms
from fastai.vision.data import ImageBlock

from benchmarks.peers.budget import Pilot, options, tell
from benchmarks.peers.network import SIDE, resnet18_of, statistics

LR = 3e-3
SMALLEST = 0.35  # of a photograph's area


class Watch(Callback):
    """Counts pictures, and ends a pilot when it has seen enough."""

    def __init__(self, pilot: Pilot | None = None) -> None:
        self.pilot, self.images = pilot, 0

    def after_batch(self) -> None:
        if self.training:
            self.images += len(self.xb[0])
            if self.pilot is not None and self.pilot.step():
                raise CancelFitException


def loaders_of(files: list[Path], classes: list[str], *, side: int, batch: int) -> DataLoaders:
    """All to train on: nothing is validated while the budget runs."""
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=classes)),
        get_y=parent_label,
        splitter=IndexSplitter([]),
        item_tfms=None if side == SIDE else RandomResizedCrop(side, min_scale=SMALLEST),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*statistics(side))],
    )
    return block.dataloaders(files, bs=batch, device="cpu")


def main() -> None:
    chosen = options(__doc__)
    shared = {"side": chosen.side, "batch": chosen.batch}
    files = sorted(get_image_files(chosen.folder / "train"))
    classes = sorted({parent_label(file) for file in files})
    loaders, pilot = loaders_of(files, classes, **shared), Pilot(chosen.seconds)
    Learner(loaders, resnet18_of(chosen.side, len(classes)), cbs=Watch(pilot)).fit_one_cycle(1000, LR)
    plan = pilot.plan(steps_per_epoch=len(loaders.train))
    set_seed(chosen.seed)
    if plan.steps < plan.whole:  # its schedule goes by the length of its loader
        loaders = loaders_of(random.sample(files, plan.steps * chosen.batch), classes, **shared)
    watch = Watch()
    learner = Learner(loaders, resnet18_of(chosen.side, len(classes)), cbs=watch)
    began = time.perf_counter()
    learner.fit_one_cycle(plan.epochs, LR)
    seconds = time.perf_counter() - began
    test = loaders.test_dl(sorted(get_image_files(chosen.folder / "test")), with_labels=True)
    probabilities, targets = learner.get_preds(dl=test)
    crop = "" if chosen.side == SIDE else f"random resized crop from {SMALLEST} of the area, "
    tell(
        "fastai",
        plan=plan,
        pilot=pilot,
        seconds=seconds,
        images=watch.images,
        correct=int((probabilities.argmax(1) == targets).sum()),
        n=len(targets),
        side=chosen.side,
        optimizer="Adam, as by default",
        schedule=f"fit_one_cycle to {LR}",
        loss="cross-entropy",
        augmentation=f"{crop}aug_transforms()",
        workers=loaders.train.fake_l.num_workers,
    )


if __name__ == "__main__":
    main()
