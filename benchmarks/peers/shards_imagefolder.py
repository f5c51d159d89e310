"""torchvision's ImageFolder with a DataLoader. Form: `SIDE WORKERS`.

https://docs.pytorch.org/vision/stable/transforms.html
"""

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.network import MEAN, PADDING, STD


def changes(side: int) -> v2.Compose:
    small = v2.RandomCrop(side, padding=PADDING, padding_mode="reflect")
    return v2.Compose(
        [
            v2.ToImage(),
            small if side == 32 else v2.RandomResizedCrop(side, scale=(0.25, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def main() -> None:
    chosen = options(__doc__)
    side, workers = (int(text) for text in chosen.form.split())
    dataset = ImageFolder(chosen.folder / "files" / "train", transform=changes(side))
    loader = DataLoader(
        dataset, batch_size=chosen.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    clock = Clock()
    for _ in range(chosen.epochs):
        clock.start()
        for _ in loader:
            pass
        clock.stop(len(dataset))
    clock.tell("torch", "torchvision", "pillow")


if __name__ == "__main__":
    main()
