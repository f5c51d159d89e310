"""Around the body of a task: what another run made of the same is taken over, and what is made is written down."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prefect.logging import get_run_logger

from flows.console import display
from flows.prepare import Prepared, opened
from flows.reuse import records
from flows.reuse.basis import basis_of
from flows.reuse.keys import keys
from flows.reuse.stages import RESTS_ON, Stage
from flows.reuse.states import cached
from models.run import RunFolder, read_refresh
from models.training.folds import begun_folds

T = TypeVar("T")


@dataclass(frozen=True)
class Reused:
    """Where a stage's result comes from."""

    run_id: str
    origin: str | None  # the run that made it, perhaps this one before an interruption; None: it is to be made now

    def told(self, words: str) -> str:
        """What is said of the stage at the terminal and in the log."""
        if self.origin is None:
            return words
        return f"{words}; done before" if self.origin == self.run_id else f"{words}; taken over from run {self.origin}"

    def returned(self, value: T, what: str) -> T:
        """What a task returns: the value, or a state that says in the UI where it comes from."""
        return value if self.origin is None else cached(value, f"{what} of run {self.origin}")


@contextmanager
def reused(
    stage: Stage, folder: Path, prepared: Prepared, *, settle: Callable[[RunFolder], object]
) -> Iterator[Reused]:
    """Files of the stage lie in the folder on entry if some run has made them; what is made inside is written down.

    A stage that was begun here, such as a training with a checkpoint, goes on instead. Where it, or one that it rests
    on, was begun as something else, the result is this run's alone.
    """
    run, every = RunFolder(folder), keys_in(folder, prepared)
    key, sound = every[stage], rests_on_its_like(stage, run, every)
    origin = records.here(stage, run, key)
    if origin is None and not begun(stage, run):
        records.begin(stage, run, key)  # first: what is taken over may be cut off before it is written down
        if sound and stage not in read_refresh(run):
            origin = records.take_over(stage, run, key, prepared.home, settle)
    if origin is not None:
        display().reused[stage] = origin
    yield Reused(run.run_id, origin)
    if origin is None and sound and records.begun_as(run).get(stage) == key:
        note(stage, run, key)


def note(stage: Stage, run: RunFolder, key: str) -> None:
    """That the stage ended here, for runs to come."""
    try:
        records.write_down(stage, run, key, made_by=run.run_id)
    except OSError as error:  # costs no result: a later run makes its own
        get_run_logger().warning("%s could not be noted in %s: %s", stage, run.path, error.strerror or error)


def keys_in(folder: Path, prepared: Prepared) -> dict[Stage, str]:
    """Of the experiment that is in the folder, on these pictures and this machine."""
    experiment = RunFolder(folder).experiment()
    return keys(experiment, basis_of(experiment, opened(prepared), prepared.home))


def rests_on_its_like(stage: Stage, run: RunFolder, every: Mapping[Stage, str]) -> bool:
    """Whether the stages before it, as they lie in the folder, are what its key says."""
    folds = run.experiment().crossval.folds
    before = [one for one in RESTS_ON[stage] if one in records.FILES and (folds or one != "cross-validate")]
    return all(records.here(one, run, every[one]) for one in before)


def begun(stage: Stage, run: RunFolder) -> bool:
    match stage:
        case "train":
            return run.learned or any(run.checkpoint.glob("*.pt"))
        case "cross-validate":
            return begun_folds(run)
        case "evaluate":
            return run.finished
        case _:
            return False
