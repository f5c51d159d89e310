"""What a run decided where its settings left the choice open: from the pictures, the network and the machine."""

from functools import reduce
from typing import Any

import torch
from pydantic import JsonValue

from data.augment import resolve
from data.images import LARGEST_SIZE
from data.prepare import Dataset
from models.config import Experiment, TrainConfig
from models.device import choose_device, multiplies_bfloat16
from models.run import RunFolder
from models.training.plan import patience_of
from models.training.trial import choose_batch_size
from models.zoo.build import any_size
from models.zoo.config_pretrained import PretrainedConfig
from models.zoo.config_transformer import ViTConfig
from models.zoo.vit import choose_patch


def decided(experiment: Experiment, dataset: Dataset, folder: RunFolder) -> dict[str, JsonValue]:
    """Path of a setting, such as `train.epochs` -> the value it got; None for one that means nothing in this run.

    `folder` holds a training that has ended. What the settings state is left out.
    """
    pictures, model = _of_pictures(experiment, dataset), _of_model(experiment, dataset)
    found = pictures | model | _of_training(experiment, dataset, folder)
    return {path: value for path, value in found.items() if _asked(experiment, path) in (None, "auto")}


def batch_size_of(config: TrainConfig, dataset: Dataset, folder: RunFolder) -> int:
    """That the run was trained with, wherever that was: one that was found by trying is in the folder."""
    num_pictures = len(dataset.split.train)
    return folder.batch_size() or choose_batch_size(
        config, num_pictures=num_pictures, device=torch.device("cpu"), fits=lambda _: False
    )


def _asked(experiment: Experiment, path: str) -> Any:
    return reduce(getattr, path.split("."), experiment)


def _of_pictures(experiment: Experiment, dataset: Dataset) -> dict[str, JsonValue]:
    images, asked = dataset.images, experiment.pictures
    augment = resolve(
        experiment.augment, images.spec, mirror=images.snapshot.mirror, any_size=any_size(experiment.model)
    )
    return {
        "dataset.name": dataset.report.name,
        "dataset.size": images.spec.height,
        "dataset.max_size": None if asked.size else asked.max_size or LARGEST_SIZE,
        "dataset.channels": images.spec.channels,
        **{f"augment.{name}": value for name, value in augment.model_dump().items()},
    }


def _of_model(experiment: Experiment, dataset: Dataset) -> dict[str, JsonValue]:
    match experiment.model:
        case ViTConfig():
            return {"model.patch": choose_patch(dataset.images.spec)}
        case PretrainedConfig() as model:
            return {"model.rate": model.rate_share}
        case _:
            return {}


def _of_training(experiment: Experiment, dataset: Dataset, folder: RunFolder) -> dict[str, JsonValue]:
    config, fit, rates = experiment.train, folder.fit(), folder.rate_test()
    device = choose_device(config.devices)
    return {
        "optimizer.lr": rates.chosen if rates else None,
        "train.epochs": fit.epochs_planned,
        "train.batch_size": batch_size_of(config, dataset, folder),
        "train.patience": fit.patience or patience_of(config, fit.epochs_planned, experiment.schedule),
        "train.precision": "bfloat16" if multiplies_bfloat16(device) else "float32",
        "train.devices": fit.device,
    }
