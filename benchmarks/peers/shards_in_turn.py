"""A plain reader of shards: every tar from its beginning to its end, a shuffle buffer, torchvision's transforms.

Form: `SIDE WORKERS`. Each worker of the DataLoader reads its own shards, as WebDataset's documentation has it.
"""

import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.shards_imagefolder import changes

BUFFER = 1000  # pictures


class InTurn(IterableDataset):
    """(pixels, class) of the training pictures."""

    def __init__(self, folder: Path, side: int) -> None:
        self._shards, self._changes = sorted(folder.glob("*.tar")), changes(side)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        worker = get_worker_info()
        own = self._shards[worker.id :: worker.num_workers] if worker else self._shards
        waiting: list[tuple[bytes, int]] = []
        for sample in samples(random.sample(own, len(own))):
            waiting.append(sample)
            if len(waiting) > BUFFER:
                yield self._decoded(*waiting.pop(random.randrange(len(waiting))))
        for sample in random.sample(waiting, len(waiting)):
            yield self._decoded(*sample)

    def _decoded(self, content: bytes, label: int) -> tuple[torch.Tensor, int]:
        with Image.open(io.BytesIO(content)) as image:
            return self._changes(image.convert("RGB")), label


def samples(shards: list[Path]) -> Iterator[tuple[bytes, int]]:
    for shard in shards:
        sample: dict[str, bytes] = {}
        with tarfile.open(shard) as there:
            for member in there:
                file = there.extractfile(member)
                sample[member.name.partition(".")[2]] = file.read() if file else b""
                if len(sample) == 3:
                    if json.loads(sample["json"]).get("split") == "train":
                        yield sample["jpg"], int(sample["cls"])
                    sample = {}


def main() -> None:
    chosen = options(__doc__)
    side, workers = (int(text) for text in chosen.form.split())
    pictures = InTurn(chosen.folder / "shards", side)
    loader = DataLoader(pictures, batch_size=chosen.batch, num_workers=workers, persistent_workers=workers > 0)
    clock = Clock()
    for _ in range(chosen.epochs):
        clock.start()
        clock.stop(sum(len(labels) for _, labels in loader))
    clock.tell("torch", "torchvision", "pillow")


if __name__ == "__main__":
    main()
