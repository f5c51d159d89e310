"""What the diagnosis wants to know beyond the curves: measured once, with the final weights."""

from functools import partial

import numpy as np
import torch
from torch import nn

from data.gate.shift import look_for_shift
from data.images import Images
from data.loader import Pictures, eval_batches
from data.progress import Progress, ignore
from data.split import Split
from models.config import Experiment
from models.evaluation.diagnosis.curvature import spectrum
from models.evaluation.diagnosis.units import watched
from models.evaluation.inference import logits_of
from models.evaluation.metrics import negative_log_likelihood
from models.mirror import single
from models.records import Checks, Spectrum, TrainingFit
from models.training.losses import class_weights_for

SAMPLE = 2_000  # training pictures
HESSIAN_BATCH = 64  # at most; two backward passes keep several times the memory of one


def measure(
    net: nn.Module,
    pictures: Pictures,
    images: Images,
    split: Split,
    *,
    temperature: float,
    experiment: Experiment,
    at_once: int,
    progress: Progress = ignore,
) -> Checks:
    """`net` answers with the final weights and stays as it is, to `at_once` pictures at most; `temperature` calibrates
    its probabilities."""
    rows = spread(split.train, SAMPLE)
    progress(f"answers to {len(rows):,} training pictures", 0, 0)
    with watched(net) as firing:
        batches = eval_batches(pictures, images.labels, rows, batch_size=at_once, image=images.spec)
        logits, labels = (answers.cpu() for answers in logits_of(net, batches))
    curved, failed = None, None
    if experiment.diagnose.hessian:
        look = partial(curvature, single(net), pictures, images, split, experiment=experiment)
        curved, failed = look(at_once=min(HESSIAN_BATCH, at_once), progress=progress)
    progress("comparing training and test pictures", 0, 0)
    probabilities = torch.softmax(logits.double() / temperature, dim=1).numpy()
    return Checks(
        training=TrainingFit(
            n=len(rows),
            accuracy=float((logits.argmax(dim=1) == labels).double().mean()),
            loss=negative_log_likelihood(probabilities, labels.numpy()),
        ),
        dead=firing.dead(),
        shift=look_for_shift(images, split),
        spectrum=curved,
        spectrum_failed=failed,
    )


def curvature(
    net: nn.Module,
    pictures: Pictures,
    images: Images,
    split: Split,
    *,
    experiment: Experiment,
    at_once: int = HESSIAN_BATCH,
    progress: Progress = ignore,
) -> tuple[Spectrum | None, str | None]:
    """The spectrum, or why there is none: a trained network is not lost for it."""
    config, train = experiment.diagnose, experiment.train
    weights = class_weights_for(train.loss, images.labels[split.train], num_classes=len(images.classes))
    rows = spread(split.train, config.hessian_pictures)
    seen = eval_batches(pictures, images.labels, rows, batch_size=at_once, image=images.spec)
    try:
        found = spectrum(
            net,
            list(seen),
            label_smoothing=train.label_smoothing,
            iterations=config.hessian_iterations,
            loss=train.loss,
            class_weights=None if weights is None else weights.to(pictures.device),
            progress=progress,
        )
    except RuntimeError as error:  # no second derivative of some operation, or no memory
        return None, str(error).strip().splitlines()[0]
    return found, None


def spread(rows: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` of the rows, evenly spread: the same ones every time."""
    if len(rows) <= limit:
        return rows
    chosen: np.ndarray = rows[np.linspace(0, len(rows) - 1, limit).round().astype(int)]
    return chosen
