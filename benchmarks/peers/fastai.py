"""fastai: ImageDataLoaders from the folder, a Learner, `fit_one_cycle`, all else as by default (Adam).

Form `channels_last` adds its callback of that name.

https://docs.fast.ai/vision.data.html, https://docs.fast.ai/learner.html, https://docs.fast.ai/callback.channelslast
"""

from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback
from fastai.callback.schedule import Learner  # with fit_one_cycle
from fastai.data.transforms import Normalize
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from fastai.vision.augment import CropPad, FlipItem, PadMode, RandomCrop
from fastai.vision.data import ImageDataLoaders

from benchmarks.peers.clock import Clock, options
from benchmarks.peers.network import MEAN, PADDING, SIDE, STD, resnet18_32


class Timer(Callback):
    """Training alone: `before_train` to `after_train` of each epoch."""

    def __init__(self) -> None:
        self.clock, self.images = Clock(), 0

    def before_train(self) -> None:
        self.images = 0
        self.clock.start()

    def after_batch(self) -> None:
        if self.training:
            self.images += len(self.xb[0])

    def after_train(self) -> None:
        self.clock.stop(self.images)


def main() -> None:
    chosen = options(__doc__)
    set_seed(0)
    loaders = ImageDataLoaders.from_folder(
        chosen.folder,
        train="train",
        valid="val",
        bs=chosen.batch,
        item_tfms=[CropPad(SIDE + 2 * PADDING, pad_mode=PadMode.Reflection), RandomCrop(SIDE), FlipItem()],
        batch_tfms=Normalize.from_stats(MEAN, STD),
        num_workers=0,
        device="cpu",
    )
    timer = Timer()
    callbacks = [timer, ChannelsLast()] if chosen.form == "channels_last" else [timer]
    learner = Learner(loaders, resnet18_32(loaders.c, chosen.stem), metrics=accuracy, cbs=callbacks)
    learner.fit_one_cycle(chosen.epochs)
    loss = float(learner.recorder.values[-1][0])
    timer.clock.tell("fastai", "torch", "torchvision", loss=loss, optimizer="Adam", precision="float32")


if __name__ == "__main__":
    main()
