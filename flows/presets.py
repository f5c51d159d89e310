"""Named experiments, each built by the constructor, so that a wrong value cannot be written here.

What a preset leaves out is decided from the pictures: their size, their number, whether a mirror image keeps its class.
"""

from data.spec import DatasetSpec
from models.config import Experiment
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

PRESETS = {e.name: e for e in (DIGITS, DIGITS_VIT, FLOWERS, FLOWERS_VIT, CIFAR10, CIFAR10_VIT)}
