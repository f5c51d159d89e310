"""One training on CIFAR-10 through this project's own `fit`, and its test, timed."""

import time
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from benchmarks.cifar import IMAGE, NUM_CLASSES, Cifar, Figures
from data.augment import resolve
from data.loader import Pictures, TrainBatches, eval_batches
from models.config import Experiment
from models.evaluation.inference import validate
from models.mirror import Mirrored
from models.pixels import measure
from models.training.fit import Validation, fit
from models.training.utilisation import with_utilisation
from models.zoo.build import any_size, build, start_from

EVAL_BATCH = 1000


class NoValidation:
    """Every epoch is better than the one before, so that the last weights are the ones kept."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _: nn.Module) -> Validation:
        self.asked += 1
        return Validation(loss=0.0, accuracy=float(self.asked))


def once(
    experiment: Experiment,
    cifar: Cifar,
    pictures: Pictures,
    *,
    seed: int,
    as_records: bool,
    around_fit: AbstractContextManager[object] | None = None,
) -> Figures:
    """One training and its test."""
    rows, config = cifar.all if as_records else cifar.train, experiment.train
    torch.manual_seed(seed)
    statistics = measure(cifar.pixels, rows)
    net = build(experiment.model, IMAGE, statistics, NUM_CLASSES).to(pictures.device)
    batches = TrainBatches(
        pictures,
        cifar.labels,
        rows,
        batch_size=config.batch_size if isinstance(config.batch_size, int) else 64,
        seed=seed,
        image=IMAGE,
        config=resolve(experiment.augment, IMAGE, mirror=True, any_size=any_size(experiment.model)),
        num_classes=NUM_CLASSES,
    )

    def judge(judged: nn.Module, judged_on: np.ndarray = cifar.val) -> Validation:
        seen = eval_batches(pictures, cifar.labels, judged_on, batch_size=EVAL_BATCH, image=IMAGE)
        return validate(judged, seen, precision=config.precision)

    clock = Clock(pictures.device)
    start_from(net, pictures, rows, IMAGE)
    with around_fit or nullcontext():
        result = fit(
            net,
            batches,
            NoValidation() if as_records else judge,
            optimizer=experiment.optimizer,
            schedule=experiment.schedule,
            config=config.model_copy(update={"seed": seed}),
        )
    loop_s = clock.read()
    net.load_state_dict(result.weights)
    clock = Clock(pictures.device)
    accuracy = judge(Mirrored(net) if experiment.answer.mirror else net, cifar.test).accuracy
    test_s = clock.read()
    summary = with_utilisation(result.summary, result.history, net, batches, IMAGE)
    return {
        "loop_s": loop_s,
        "training_s": sum(len(rows) / record.images_per_s for record in result.history),
        "test_s": test_s,
        "loop_and_test_s": loop_s + test_s,
        "test_accuracy": accuracy,
        "epochs": summary.epochs_run,
        "images_per_s": summary.images_per_s,
        **({} if summary.utilisation is None else {"utilisation": summary.utilisation}),
    }


class Clock:
    """Seconds since it was made, with all that a GPU was given to do done at both ends."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wait()
        self.began = time.perf_counter()

    def read(self) -> float:
        self.wait()
        return time.perf_counter() - self.began

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
