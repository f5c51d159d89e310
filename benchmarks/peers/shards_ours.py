"""This project's batches out of shards. Form: `SIDE WORKERS`."""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.peers.clock import Clock, options
from data.augment import resolve
from data.loader import Pictures, TrainBatches
from data.prepare import prepare
from data.shards import decoders, stream
from data.spec import AugmentConfig, DatasetSpec
from models.pixels import Pixels, measure

AS_OTHERS = AugmentConfig(zoom=0.75, rotate=0, color=0, mixup=0, cutmix=0, grow=0, policy="none")
SILENT = {"level": "ignore"}
UNASKED = ("dark", "light", "blank", "blurred", "odd_size", "odd_aspect", "near", "near_contradictions", "near_leakage")


def main() -> None:
    chosen = options(__doc__)
    side, workers = (int(text) for text in chosen.form.split())
    decoders.cores = lambda: workers
    stream.FEW = 0  # processes, however few the pictures
    asked = AS_OTHERS if side == 128 else AugmentConfig()
    gate = dict.fromkeys(UNASKED, SILENT)
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as home:
        source = str(chosen.folder.resolve() / "shards")
        dataset = prepare(DatasetSpec(source=source, size=side, channels=3, gate=gate), Path(home))
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
            prefetch=2 if workers else 0,
        )
        normalise = Pixels(images.spec, measure(images.pixels, rows))
        clock = Clock()
        for epoch in range(chosen.epochs):
            clock.start()
            with torch.inference_mode():
                for pixels, _ in batches.epoch(epoch):
                    normalise(pixels)
            clock.stop(len(rows))
    clock.tell("torch", trainserve=version("trainserve"), cores=os.cpu_count())


if __name__ == "__main__":
    main()
