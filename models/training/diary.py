"""What is written down of a training: its settings at its start, and every epoch as it ends: a line in the run folder,
and points on TensorBoard's curves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from data.prepare import Dataset
from models.config import Experiment
from models.records import EpochRecord, RateTest
from models.room import must_be_written
from models.run import NetworkSpec, RunFolder
from models.training.board import Board
from models.training.fit import ignore

if TYPE_CHECKING:
    from models.training.learn import Learner


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


@contextmanager
def diary(
    experiment: Experiment,
    dataset: Dataset,
    learner: "Learner",
    folder: RunFolder,
    on_epoch: Callable[[EpochRecord], None],
    on_choice: Callable[[str], None],
    on_trouble: Callable[[str], None],
    *,
    writes: bool,
) -> Iterator[tuple[Callable[[EpochRecord], None], Callable[[RateTest], None]]]:
    """What is written down of a training under way, and told: settings at its start, then every epoch as it ends and
    the range test that chose the rate, by the two functions. Raises `RunFailed` for a disk full at its start."""
    if not writes:
        yield ignore, ignore
        return
    network = NetworkSpec(image=dataset.images.spec, statistics=learner.statistics, classes=dataset.images.classes)
    with must_be_written(folder.path):
        folder.write_experiment(experiment)
        folder.write_network(network)
        if experiment.train.batch_size == "auto":
            folder.write_batch_size(learner.batches.batch_size)
    if experiment.train.batch_size == "auto":
        on_choice(f"batch size {learner.batches.batch_size}, chosen for {learner.batches.device.type}")
    board = Board(folder.tensorboard, learner.batches)
    log = EpochLog(folder, board, on_trouble)

    def write_epoch(record: EpochRecord) -> None:
        log.write(record)
        on_epoch(record)

    def write_rates(test: RateTest) -> None:
        with must_be_written(folder.path):
            folder.write_rate_test(test)
        on_choice(f"learning rate {test.chosen:.2g}, by a range test of {len(test.rates)} steps")

    try:
        yield write_epoch, write_rates
    finally:
        board.close()
