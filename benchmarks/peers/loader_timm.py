"""timm's data path: `create_dataset` and `create_loader`, in this process, colour jitter off.

https://huggingface.co/docs/timm. Forms: `32` and `128`, the side that its random resized crop ends with.
"""

import torch
from timm.data import create_dataset, create_loader

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.network import MEAN, STD


def main() -> None:
    chosen = options(__doc__)
    side = int(chosen.form)
    loader = create_loader(
        create_dataset("", root=chosen.folder / "train", split="train", is_training=True),
        input_size=(3, side, side),
        batch_size=chosen.batch,
        is_training=True,
        scale=(0.64, 1.0) if side == 32 else (0.25, 1.0),
        hflip=0.5,
        color_jitter=0.0,
        mean=MEAN,
        std=STD,
        num_workers=0,
        persistent_workers=False,
        device=torch.device("cpu"),
    )
    clock = Clock()
    for _ in range(chosen.epochs):
        images = 0
        clock.start()
        for pixels, _ in loader:
            images += len(pixels)
        clock.stop(images)
    clock.tell("timm", "torch", "pillow")


if __name__ == "__main__":
    main()
