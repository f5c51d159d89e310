"""Lightning: a LightningModule and a Trainer with its defaults, on torchvision's ImageFolder and transforms. Form
`channels_last` puts network and pictures into that layout, which Lightning leaves to its users.

https://lightning.ai/docs/pytorch/stable/starter/introduction.html
"""

import logging
import tempfile

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.network import MEAN, PADDING, SIDE, STD, resnet18_32


class Classifier(L.LightningModule):
    def __init__(self, num_classes: int, stem: str, layout: torch.memory_format) -> None:
        super().__init__()
        self.layout = layout
        self.net: nn.Module = resnet18_32(num_classes, stem).to(memory_format=layout)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        pixels, targets = batch
        loss = F.cross_entropy(self.net(pixels.contiguous(memory_format=self.layout)), targets)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)


class Timer(L.Callback):
    def __init__(self, images: int) -> None:
        self.clock, self.images = Clock(), images

    def on_train_epoch_start(self, *_: object) -> None:
        self.clock.start()

    def on_train_epoch_end(self, *_: object) -> None:
        self.clock.stop(self.images)


def main() -> None:
    chosen = options(__doc__)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    L.seed_everything(0)
    changes = v2.Compose(
        [
            v2.RandomCrop(SIDE, padding=PADDING, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    dataset = ImageFolder(chosen.folder / "train", transform=changes)
    timer = Timer(len(dataset))
    with tempfile.TemporaryDirectory(prefix="trainserve-bench-") as folder:
        trainer = L.Trainer(max_epochs=chosen.epochs, accelerator="cpu", default_root_dir=folder, callbacks=[timer])
        layout = torch.channels_last if chosen.form == "channels_last" else torch.contiguous_format
        net = Classifier(len(dataset.classes), chosen.stem, layout)
        trainer.fit(net, DataLoader(dataset, batch_size=chosen.batch, shuffle=True))
    loss = float(trainer.callback_metrics["train_loss"])
    timer.clock.tell("lightning", "torch", "torchvision", loss=loss, optimizer="SGD", precision="float32")


if __name__ == "__main__":
    main()
