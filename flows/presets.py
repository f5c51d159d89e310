"""Named experiments, each built by the constructor, so that a wrong value cannot be written here.

What a preset leaves out is decided from the pictures: their size, their number, whether a mirror image keeps its class.
"""

from data.spec import AugmentConfig, DatasetSpec
from models.config import Experiment, TrainConfig
from models.training.config import LinearConfig, MuonConfig
from models.zoo.config import CNNConfig
from models.zoo.config_transformer import ViTConfig

DIGITS_SET = DatasetSpec(source="digits")
FLOWERS_SET = DatasetSpec(source="flowers.tar.gz")
CIFAR10_SET = DatasetSpec(source="cifar10")

DIGITS = Experiment(name="digits", dataset=DIGITS_SET, model=CNNConfig())
DIGITS_VIT = Experiment(name="digits-vit", dataset=DIGITS_SET, model=ViTConfig())
FLOWERS = Experiment(name="flowers", dataset=FLOWERS_SET, model=CNNConfig())
FLOWERS_VIT = Experiment(name="flowers-vit", dataset=FLOWERS_SET, model=ViTConfig())
CIFAR10 = Experiment(name="cifar10", dataset=CIFAR10_SET, model=CNNConfig())
CIFAR10_VIT = Experiment(name="cifar10-vit", dataset=CIFAR10_SET, model=ViTConfig())

CIFAR10_SPEED = Experiment(
    name="cifar10-speed",
    dataset=CIFAR10_SET,
    model=CNNConfig(width=64),
    # The rate of the default batch of 64, times the root of how much larger this one is.
    optimizer=MuonConfig(lr=8e-3, weight_decay=0.2, momentum=0.9),
    schedule=LinearConfig(warmup=0.2, final=0.0),
    augment=AugmentConfig(crop=2, flip=True),
    train=TrainConfig(epochs=12, batch_size=1000, patience=11, label_smoothing=0.2, clip_norm=None, ema=None),
)
"""To 94 % of the CIFAR-10 test pictures in as few seconds as a GPU allows (`benchmarks/cifar_speed.py`); not yet tuned
on one. As https://github.com/KellerJordan/cifar10-airbench has it: Muon, a rate that falls in a straight line to
nothing (which averages the weights, so no moving average does), crops by two pixels, stronger label smoothing, no
clipping. A picture's way forward is 1.06 GFLOPs, an epoch of 45,000 pictures 143 TFLOPs; with width 32 a quarter.
Not for other data: so few epochs are right only where that many small pictures are there to learn from.
"""

PRESETS = {e.name: e for e in (DIGITS, DIGITS_VIT, FLOWERS, FLOWERS_VIT, CIFAR10, CIFAR10_VIT, CIFAR10_SPEED)}
