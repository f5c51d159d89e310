"""When to stop, and which epoch to keep: a value, so that the rule can be tested without training."""

import math
from dataclasses import dataclass, replace


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
