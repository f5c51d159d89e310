"""timm: the pieces of its training script in the order of its `train_one_epoch`.

https://github.com/huggingface/pytorch-image-models/blob/main/train.py; its own loader, label smoothing, SGD, averages;
its random resized crop kept mild, its colour jitter off, so that the pictures are changed about as much as elsewhere.
Form `channels_last` is its option `--channels-last`.
"""

import torch
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.network import MEAN, SIDE, STD, resnet18_32


def main() -> None:
    chosen = options(__doc__)
    torch.manual_seed(0)
    device = torch.device("cpu")
    dataset = create_dataset("", root=chosen.folder / "train", split="train", is_training=True)
    loader = create_loader(
        dataset,
        input_size=(3, SIDE, SIDE),
        batch_size=chosen.batch,
        is_training=True,
        scale=(0.64, 1.0),
        hflip=0.5,
        color_jitter=0.0,
        mean=MEAN,
        std=STD,
        num_workers=0,
        persistent_workers=False,
        device=device,
    )
    layout = torch.channels_last if chosen.form == "channels_last" else torch.contiguous_format
    net = resnet18_32(len(dataset.reader.class_to_idx), chosen.stem).to(memory_format=layout)
    optimizer = create_optimizer_v2(net, opt="sgd", lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=chosen.epochs, step_on_epochs=False, updates_per_epoch=len(loader)
    )
    loss_fn = LabelSmoothingCrossEntropy(0.1)
    clock, losses, updates = Clock(), AverageMeter(), 0
    for _ in range(chosen.epochs):
        net.train()
        images = 0
        clock.start()
        for pixels, targets in loader:
            loss = loss_fn(net(pixels.contiguous(memory_format=layout)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
            images += len(pixels)
            losses.update(loss.item(), len(pixels))
            scheduler.step_update(num_updates=updates, metric=losses.avg)
        clock.stop(images)
    clock.tell("timm", "torch", "torchvision", loss=losses.avg, optimizer="SGD", precision="float32")


if __name__ == "__main__":
    main()
