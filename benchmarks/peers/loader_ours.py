"""This project's data path: pictures decoded once into one file of bytes, then shuffled, augmented and normalised in
batches. What the network's first layer, the normalisation, takes is in the time; decoding, once a data set, is told
apart.

Forms: `32`, crop and flip; `128`, a random part of the stored picture scaled and mirrored (the others cut it out of the
photograph in its full size, which is dearer and sharper); `128-defaults`, all that is done to photographs by default
(zoomed, mirrored, TrivialAugment).
"""

import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.peers.clock import Clock, now, options
from data.augment import resolve
from data.loader import Pictures, TrainBatches
from data.prepare import prepare
from data.spec import AugmentConfig, DatasetSpec
from models.pixels import Pixels, measure

AS_OTHERS = AugmentConfig(zoom=0.75, rotate=0, color=0, mixup=0, cutmix=0, grow=0, policy="none")


def main() -> None:
    chosen = options(__doc__)
    side, _, defaults = chosen.form.partition("-")
    asked = AS_OTHERS if side == "128" and not defaults else AugmentConfig()
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as home:
        spec = DatasetSpec(source=str(chosen.folder.resolve()), size=int(side), channels=3)
        began = now()[1]
        dataset = prepare(spec, Path(home))
        prepare_cpu_s = now()[1] - began  # with those of the processes that decode
        images, rows = dataset.images, dataset.split.train
        batches = TrainBatches(
            Pictures(images.pixels),
            images.labels,
            rows,
            batch_size=chosen.batch,
            seed=0,
            image=images.spec,
            config=resolve(asked, images.spec, mirror=True, any_size=True),
            num_classes=len(images.classes),
        )
        normalise = Pixels(images.spec, measure(images.pixels, rows))
        clock = Clock()
        for epoch in range(chosen.epochs):
            clock.start()
            with torch.inference_mode():
                for pixels, _ in batches.epoch(epoch):
                    normalise(pixels)
            clock.stop(len(rows))
    clock.tell("torch", prepare_cpu_s=prepare_cpu_s, pictures=len(images.labels), trainserve=version("trainserve"))


if __name__ == "__main__":
    main()
