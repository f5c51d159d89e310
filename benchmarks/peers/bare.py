"""A bare loop: decoded pictures in one tensor, shuffled, normalised; forward, backward, step. No augmentation.

Forms: `contiguous`, as one would write it first; `channels_last`, which convolutions on a CPU prefer; `kept`, which is
`channels_last` with freed memory kept for the next step, as this project's trainings have it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import pil_to_tensor

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.network import MEAN, STD, resnet18_32
from models.training.allocation import keep_freed_memory


def loaded(folder: str) -> tuple[Tensor, Tensor, int]:
    """uint8 (N, 3, 32, 32), int64 (N,), and the number of classes."""
    pictures = ImageFolder(folder, transform=pil_to_tensor)
    pixels, labels = zip(*pictures, strict=True)
    return torch.stack(pixels), torch.tensor(labels), len(pictures.classes)


def main() -> None:
    chosen = options(__doc__)
    if chosen.form == "kept":
        keep_freed_memory()
    layout = torch.contiguous_format if chosen.form == "contiguous" else torch.channels_last
    torch.manual_seed(0)
    pixels, labels, num_classes = loaded(chosen.folder / "train")
    net = resnet18_32(num_classes, chosen.stem).to(memory_format=layout)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    clock = Clock()
    net.train()
    for _ in range(chosen.epochs):
        clock.start()
        for rows in torch.randperm(len(labels)).split(chosen.batch):
            x = ((pixels[rows] - mean) / std).contiguous(memory_format=layout)
            loss = F.cross_entropy(net(x), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        clock.stop(len(labels))
    clock.tell("torch", "torchvision", loss=loss.item(), optimizer="SGD", precision="float32")


if __name__ == "__main__":
    main()
