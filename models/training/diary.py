"""Every epoch, written down as it ends: a line in the run folder, and points on TensorBoard's curves."""

from collections.abc import Callable

from models.records import EpochRecord
from models.run import RunFolder
from models.training.board import Board


class EpochLog:
    """A full disk costs no training: what could not be written is tried again with the next epoch."""

    def __init__(self, folder: RunFolder, board: Board, on_trouble: Callable[[str], None]) -> None:
        self._folder, self._board, self._on_trouble = folder, board, on_trouble
        self._unwritten: list[EpochRecord] = []

    def write(self, record: EpochRecord) -> None:
        self._unwritten.append(record)
        try:
            while self._unwritten:
                self._folder.write_epoch(self._unwritten[0])
                self._unwritten.pop(0)
            self._board.epoch(record)
        except OSError as error:
            self._on_trouble(
                f"epoch {record.epoch + 1} could not be written down in {self._folder.path} "
                f"({error.strerror or error}); training goes on and the next epoch tries again, but make room"
            )
