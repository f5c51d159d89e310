"""TensorBoard: the curves, and what the network really sees."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.records import EpochRecord
from models.training.fit import Batches

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SHOWN = 64  # augmented pictures

CURVES = {
    "loss/train": "train_loss",
    "loss/validation": "val_loss",
    "accuracy/validation": "val_accuracy",
    "rate/learning": "lr",
    "gradient/norm": "grad_norm",
    "speed/images_per_s": "images_per_s",
}


class Board:
    """Opened at the first epoch: TensorBoard takes seconds to import, which training does not wait for."""

    def __init__(self, folder: Path, batches: Batches) -> None:
        self._folder, self._batches = folder, batches
        self._writer: SummaryWriter | None = None

    def epoch(self, record: EpochRecord) -> None:
        """Raises `OSError`, and then begins another file with the next epoch: a writer that failed once stays so."""
        try:
            self._write(record)
        except OSError:
            self._writer = None  # not closed, since that would try to write again
            raise

    def _write(self, record: EpochRecord) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What a killed process wrote of this epoch and later ones is hidden.
            self._writer = SummaryWriter(str(self._folder), purge_step=record.epoch)
            if record.epoch == 0:
                self._writer.add_images("augmented", first_pictures(self._batches), 0, dataformats="NHWC")
        for tag, field in CURVES.items():
            self._writer.add_scalar(tag, getattr(record, field), record.epoch)
        for layer, norm in (record.grad_norm_by_layer or {}).items():
            self._writer.add_scalar(f"gradient by layer/{layer}", norm, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def first_pictures(batches: Batches) -> Tensor:
    """uint8 (N, H, W, C): the beginning of the first batch, as trained on."""
    pixels, _ = next(batches.epoch(0))
    return pixels[:SHOWN].cpu().clamp(0, 255).to(torch.uint8)
