"""When to stop, and which epoch to keep: a value, so that the rule can be tested without training."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from models.config import TrainConfig
from models.records import EpochRecord


def monitored(record: EpochRecord, config: TrainConfig) -> tuple[float, ...]:
    """Smaller is better; equal accuracies, common on a small validation set, are told apart by the loss."""
    if config.monitor == "val_loss":
        return (record.val_loss,)
    return (1 - record.val_accuracy, record.val_loss)


def best_so_far(record: EpochRecord, history: Iterable[EpochRecord], config: TrainConfig) -> bool:
    """The epoch is the one to keep, of those up to it; `history` may hold later ones, which a killed run told."""
    earlier = (monitored(other, config) for other in history if other.epoch < record.epoch)
    return all(monitored(record, config) < figures for figures in earlier)


@dataclass(frozen=True)
class EarlyStop:
    """Counts epochs from 0. `best` holds the figures of the best epoch so far; smaller is better."""

    patience: int  # epochs without improvement before stopping
    epochs: int = 0  # seen so far
    best: tuple[float, ...] = ()
    best_epoch: int | None = None

    def seen(self, *figures: float) -> "EarlyStop":
        """The next epoch's figures, compared in order: a later one only breaks a tie of those before it.

        Raises ValueError on NaN, which compares as no improvement and would end with no best epoch at all.
        """
        if any(math.isnan(figure) for figure in figures):
            raise ValueError(f"epoch {self.epochs} was judged by NaN: {figures}")
        if self.best_epoch is None or figures < self.best:
            return replace(self, epochs=self.epochs + 1, best=figures, best_epoch=self.epochs)
        return replace(self, epochs=self.epochs + 1)

    @property
    def improved(self) -> bool:
        """The last epoch seen is the best so far."""
        return self.best_epoch is not None and self.best_epoch == self.epochs - 1

    @property
    def spent(self) -> bool:
        return self.best_epoch is not None and self.epochs - 1 - self.best_epoch >= self.patience
