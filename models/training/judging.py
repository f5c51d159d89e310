"""How a network is judged while it trains: by its answers to the validation rows, no more at a time than there is room
for."""

from collections.abc import Callable

import numpy as np
from torch import nn

from data.images import Images
from data.loader import Pictures, eval_batches
from models.config import Experiment, TrainConfig
from models.evaluation.inference import validate
from models.training.distributed import ALONE, Ranks
from models.training.fit import Validation

MOST = 256  # pictures: answers to more at once take no less time


def answered_at_once(config: TrainConfig, batch_size: int, *, ranks: Ranks = ALONE) -> int:
    """Pictures that go through a network together where it only answers: never more than in training, so that a batch
    that fits there fits here, and where one does not, `train.batch_size` is the remedy."""
    return min(MOST, -(-batch_size // (config.accumulate * ranks.num)))


def judge_for(
    experiment: Experiment, images: Images, pictures: Pictures, val: np.ndarray, *, at_once: int, ranks: Ranks
) -> Callable[[nn.Module], Validation]:
    """Each rank looks at its share of the rows, and all get the figures of the whole."""
    rows = val[ranks.part(len(val))]

    def judge(net: nn.Module) -> Validation:
        seen = eval_batches(pictures, images.labels, rows, batch_size=at_once, image=images.spec)
        own = validate(net, seen, precision=experiment.train.precision) if len(rows) else Validation(0.0, 0.0)
        return Validation(*ranks.mean(own, num=len(rows)))

    return judge
