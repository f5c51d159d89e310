"""Ultralytics (AGPL-3.0: in an environment of its own, no part of this project): a classification trainer.

https://docs.ultralytics.com/tasks/classify/, https://docs.ultralytics.com/guides/custom-trainer/. All as by default
but the network, and randaugment, erasing and colour off, so that the pictures are changed about as much as elsewhere.
"""

import os
import tempfile

os.environ["YOLO_OFFLINE"] = "true"  # before the import: no look for updates, no telemetry
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from ultralytics.models.yolo.classify import ClassificationTrainer

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.network import SIDE, resnet18_32


class Wrapped(nn.Module):
    """The network as the trainer calls one: a batch in training gives the loss, for its sum and for its log."""

    criterion = None  # is looked for

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.last = net, torch.zeros(())

    def forward(self, x: Tensor | dict[str, Tensor], *_: object, **__: object) -> object:
        return self.loss(x) if isinstance(x, dict) else self.net(x)

    def loss(self, batch: dict[str, Tensor], logits: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        loss = F.cross_entropy(self.net(batch["img"]) if logits is None else logits, batch["cls"])
        self.last = loss.detach()
        return loss, {"loss": self.last}


def main() -> None:
    chosen = options(__doc__)
    num_classes = sum(1 for _ in (chosen.folder / "train").iterdir())
    images = sum(1 for _ in (chosen.folder / "train").glob("*/*.jpg"))
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as folder:
        settings = {
            "model": "resnet18",
            "data": str(chosen.folder.resolve()),
            "epochs": chosen.epochs,
            "imgsz": SIDE,
            "batch": chosen.batch,
            "workers": 0,
            "device": "cpu",
            "val": False,
            "plots": False,
            "pretrained": False,
            "auto_augment": None,
            "erasing": 0.0,
            "hsv_h": 0.0,
            "hsv_s": 0.0,
            "hsv_v": 0.0,
            "project": folder,
        }
        trainer = ClassificationTrainer(overrides=settings)
        trainer.model = net = Wrapped(resnet18_32(num_classes, chosen.stem))
        trainer.add_callback("on_train_epoch_start", lambda _: clock.start())
        trainer.add_callback("on_train_epoch_end", lambda _: clock.stop(images))
        trainer.train()
        optimizer = type(trainer.optimizer).__name__
    clock.tell("ultralytics", "torch", "torchvision", loss=float(net.last), optimizer=optimizer, precision="float32")


if __name__ == "__main__":
    main()
