"""timm with a budget: the pieces of its training script, with what its recipes add to the defaults.

https://github.com/huggingface/pytorch-image-models/blob/main/train.py, https://huggingface.co/docs/timm. Cosine
schedule by update with a linear warm-up, label smoothing and mixup, its random resized crop, flip and colour jitter.
"""

import time
from collections.abc import Iterable
from itertools import islice

import torch
from timm.data import Mixup, create_dataset, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn

from benchmarks.peers.budget import Pilot, Plan, options, tell
from benchmarks.peers.network import SIDE, resnet18_of, statistics

LR, WEIGHT_DECAY = 0.05, 5e-4
MIXUP, SMOOTHING = 0.2, 0.1
WARM_UP = 0.1  # of all epochs, at most the script's 5
WORKERS = 2  # its script asks for 4, and torch advises no more than cores
# Of the area, at least, that a random crop takes. The script's 0.08 is for hundreds of epochs.
CROPS = {True: 0.64, False: 0.25}  # small pictures, photographs


def loader_of(part: str, *, folder: str, side: int, batch: int) -> tuple[Iterable, int]:
    """Batches, and the number of classes."""
    mean, std = statistics(side)
    train = part == "train"
    dataset = create_dataset("", root=folder, split=part, is_training=train)
    loader = create_loader(
        dataset,
        input_size=(3, side, side),
        batch_size=batch,
        is_training=train,
        scale=(CROPS[side == SIDE], 1.0),
        interpolation="random" if train else "bicubic",
        crop_pct=1.0 if side == SIDE else 0.875,
        mean=mean,
        std=std,
        num_workers=WORKERS,
        device=torch.device("cpu"),
    )
    return loader, len(dataset.reader.class_to_idx)


def train(
    loader: Iterable, plan: Plan, *, side: int, num_classes: int, pilot: Pilot | None = None
) -> tuple[nn.Module, int]:
    """The network and the number of pictures it was trained on; a pilot ends it when it has seen enough."""
    net = resnet18_of(side, num_classes)
    optimizer = create_optimizer_v2(net, opt="sgd", lr=LR, momentum=0.9, weight_decay=WEIGHT_DECAY)
    scheduler, num_epochs = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=plan.epochs,
        warmup_epochs=min(5, WARM_UP * plan.epochs),
        step_on_epochs=False,
        updates_per_epoch=plan.steps,
    )
    mix = Mixup(mixup_alpha=MIXUP, label_smoothing=SMOOTHING, num_classes=num_classes)
    loss_fn, updates, images = SoftTargetCrossEntropy(), 0, 0
    for _ in range(num_epochs):
        net.train()
        for pixels, targets in islice(loader, plan.steps):
            mixed, soft = mix(pixels, targets)
            loss = loss_fn(net(mixed), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates, images = updates + 1, images + len(pixels)
            scheduler.step_update(num_updates=updates)
            if pilot is not None and pilot.step():
                return net, images
    return net, images


@torch.inference_mode()
def score(net: nn.Module, loader: Iterable) -> tuple[int, int]:
    """Right answers, and pictures."""
    net.eval()
    right = [net(pixels).argmax(1) == targets for pixels, targets in loader]
    return int(torch.cat(right).sum()), len(torch.cat(right))


def main() -> None:
    chosen = options(__doc__)
    shared = {"folder": str(chosen.folder), "side": chosen.side, "batch": chosen.batch}
    loader, num_classes = loader_of("train", **shared)
    network = {"side": chosen.side, "num_classes": num_classes}
    pilot = Pilot(chosen.seconds)
    train(loader, Plan(1000, len(loader), len(loader)), **network, pilot=pilot)
    plan = pilot.plan(steps_per_epoch=len(loader))
    torch.manual_seed(chosen.seed)
    began = time.perf_counter()
    net, images = train(loader, plan, **network)
    seconds = time.perf_counter() - began
    correct, n = score(net, loader_of("test", **shared)[0])
    crop = f"random resized crop from {CROPS[chosen.side == SIDE]} of the area, flip, colour jitter 0.4, mixup {MIXUP}"
    tell(
        "timm",
        plan=plan,
        pilot=pilot,
        seconds=seconds,
        images=images,
        correct=correct,
        n=n,
        side=chosen.side,
        optimizer=f"SGD, Nesterov, rate {LR}, decay {WEIGHT_DECAY}",
        schedule=f"cosine, warm-up {WARM_UP} of all",
        loss=f"soft targets, smoothing {SMOOTHING}",
        augmentation=crop,
        workers=WORKERS,
    )


if __name__ == "__main__":
    main()
