"""How a network is judged while it trains: by its answers to the validation rows, as many at a time as there is room
for."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from data.images import Images
from data.loader import Pictures, eval_batches
from data.spec import ImageSpec
from models.config import Experiment, TrainConfig
from models.device import is_full
from models.evaluation.inference import logits_of, validate
from models.training.distributed import ALONE, Ranks
from models.training.fit import Validation

T = TypeVar("T")

MOST = 256  # pictures: on a CPU, answers to more at once take no less time
MANY = 1024  # on a GPU, which after small batches waits for the next one
PIXELS = 1 << 24  # of all of them: batches of larger pictures are not small


def answered_at_once(config: TrainConfig, batch_size: int, *, ranks: Ranks = ALONE) -> int:
    """Pictures that go through a network together where it only answers: never more than in training, so that a batch
    that fits there fits here, and where one does not, `train.batch_size` is the remedy."""
    return min(MOST, -(-batch_size // (config.accumulate * ranks.num)))


class Room:
    """How many pictures are answered at once: on a GPU, where nothing is kept for a way back, `MANY`; elsewhere, and
    from then on where so many did not fit, no more than `sure`, which training has shown to fit."""

    def __init__(self, sure: int, image: ImageSpec, device: torch.device) -> None:
        many = min(MANY, PIXELS // (image.height * image.width))
        self._sizes = [many, sure] if device.type == "cuda" and many > sure else [sure]

    def answer(self, by: Callable[[int], T]) -> T:
        """`by(pictures at once)`, which must give the same whatever their number."""
        while len(self._sizes) > 1:
            try:
                return by(self._sizes[0])
            except RuntimeError as error:
                if not is_full(error):
                    raise
            self._sizes.pop(0)
            torch.cuda.empty_cache()  # after the except clause, whose traceback holds on to the tensors
        return by(self._sizes[0])


def judge_for(
    experiment: Experiment, images: Images, pictures: Pictures, val: np.ndarray, *, at_once: int, ranks: Ranks
) -> Callable[[nn.Module], Validation]:
    """Each rank looks at its share of the rows, and all get the figures of the whole. `at_once` pictures surely fit."""
    rows, room = val[ranks.part(len(val))], Room(at_once, images.spec, pictures.device)

    def judge(net: nn.Module) -> Validation:
        def answered(size: int) -> Validation:
            seen = eval_batches(pictures, images.labels, rows, batch_size=size, image=images.spec)
            return validate(net, seen, precision=experiment.train.precision)

        own = room.answer(answered) if len(rows) else Validation(0.0, 0.0)
        return Validation(*ranks.mean(own, num=len(rows)))

    return judge


def logits(net: nn.Module, pictures: Pictures, images: Images, rows: np.ndarray, *, at_once: int) -> np.ndarray:
    """float32 (rows, classes). `at_once` pictures surely fit."""

    def answered(size: int) -> np.ndarray:
        batches = eval_batches(pictures, images.labels, rows, batch_size=size, image=images.spec)
        return logits_of(net, batches)[0].cpu().numpy()

    return Room(at_once, images.spec, pictures.device).answer(answered)
