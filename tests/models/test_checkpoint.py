"""When a checkpoint is written, what a full disk does to it, and stopping on request."""

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data.errors import RunFailed
from data.loader import Pictures
from data.prepare import Dataset
from models.config import Experiment
from models.records import EpochRecord
from models.run import RunFolder, open_run
from models.training.checkpoint import Checkpoints
from models.training.fit import FitResult
from models.training.learn import learn, learner_for, run_fit
from models.training.pulse import Stopped
from tests.models.conftest import toy_dataset


def trained(chosen: Experiment, toy: Dataset, checkpoints: Checkpoints | None, **more) -> FitResult:
    pictures = Pictures(toy.images.pixels, resident=more.pop("resident", None))
    learner = learner_for(chosen, toy.images, pictures, train=toy.split.train, val=toy.split.val, seed=0)
    learner.batches._prefetch = more.pop("prefetch", 2)
    return run_fit(chosen, learner, checkpoints=checkpoints, **more)


class StopAfter:
    """Asked once after every step; says yes at the given one."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


class Killed(Exception):  # noqa: N818
    """In place of SIGKILL."""


class KillAfter(StopAfter):
    def __call__(self) -> bool:
        if super().__call__():
            raise Killed
        return False


@cache
def undisturbed(chosen: Experiment) -> FitResult:
    return trained(chosen, toy_dataset(), None)


def same(one: FitResult, other: FitResult) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize(
    "steps",
    [1, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)],
    ids=["first step", "end of an epoch", "next epoch"],
)
def test_a_run_that_is_asked_to_stop_saves_that_step_and_goes_on_from_it(
    steps: int, tiny: Experiment, toy: Dataset, tmp_path: Path
):
    checkpoints = Checkpoints(tmp_path, every_s=3600)
    with pytest.raises(Stopped, match=f"after step {steps} of 9, in epoch {1 + (steps > 3)} of 3"):
        trained(tiny, toy, checkpoints, stop=StopAfter(steps))
    saved = checkpoints.load()
    assert saved is not None
    assert saved["epoch"] * 3 + saved["step"] == steps
    assert same(trained(tiny, toy, checkpoints), undisturbed(tiny))


@pytest.mark.parametrize(
    ("settings", "during"),
    [
        ({"optimizer": {"lr": "auto"}}, "the range test"),
        ({"train": {"max_minutes": 1.0}}, "the measurement of the speed"),
    ],
    ids=["rate", "speed"],
)
def test_a_run_that_is_asked_to_stop_while_it_tries_something_stops_there(
    settings: dict[str, dict[str, object]], during: str, tiny: Experiment, toy: Dataset, tmp_path: Path
):
    """Nothing is kept of it, and the next attempt tries again."""
    given = tiny.model_dump()
    for section, values in settings.items():
        given[section] |= values
    chosen, checkpoints, stop = Experiment.model_validate(given), Checkpoints(tmp_path), StopAfter(3)
    with pytest.raises(Stopped, match=f"^before the first step, during {during}$"):
        trained(chosen, toy, checkpoints, stop=stop)
    assert stop.left == 0
    assert checkpoints.load() is None


@pytest.mark.slow
def test_a_stop_leaves_a_folder_that_learning_goes_on_with(tiny: Experiment, toy: Dataset, tmp_path: Path):
    folder = open_run(tmp_path, tiny, "0" * 64)
    with pytest.raises(Stopped):
        learn(tiny, toy, folder, stop=StopAfter(4))
    assert not folder.learned
    assert len(folder.history()) == 1
    learn(tiny, toy, folder)
    assert [record.epoch for record in RunFolder(folder.path).history()] == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "steps", "due"),
    [
        ({"every_steps": 4}, (4, 8), True),
        ({"every_steps": 4, "every_s": 0.0}, (1, 5, 7), False),
        ({"every_s": 0.0}, (1, 2, 3), True),
        ({"every_s": 3600.0}, (1, 2, 3), False),
    ],
)
def test_a_checkpoint_is_due_by_steps_where_asked_and_else_by_seconds(tmp_path: Path, settings, steps, due):
    checkpoints = Checkpoints(tmp_path, **settings)
    assert {checkpoints.due(step) for step in steps} == {due}


def test_the_end_of_an_epoch_is_saved_unless_the_last_checkpoint_is_young(tmp_path: Path):
    assert Checkpoints(tmp_path, every_s=3600, epoch_s=0).due(3, epoch_ended=True)
    assert not Checkpoints(tmp_path, every_s=3600, epoch_s=3600).due(3, epoch_ended=True)


@pytest.mark.parametrize("writes", [True, False], ids=["writes", "another process writes"])
def test_after_a_checkpoint_none_is_due_until_its_seconds_have_passed(
    writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    checkpoints = Checkpoints(tmp_path, every_s=30, writes=writes)
    for _ in range(2):
        assert not checkpoints.due(1)
        now += 30
        assert checkpoints.due(1)
        checkpoints.save({})
    assert bool(list(tmp_path.iterdir())) == writes


@pytest.mark.slow
def test_steps_between_checkpoints_are_a_setting(tiny: Experiment, toy: Dataset, tmp_path: Path):
    chosen = Experiment.model_validate(tiny.model_dump() | {"train": tiny.train.model_dump() | {"checkpoint_every": 4}})
    folder = open_run(tmp_path, chosen, "0" * 64)
    with pytest.raises(Killed):
        learn(chosen, toy, folder, stop=KillAfter(6))
    saved = Checkpoints(folder.checkpoint).load()
    assert saved is not None
    assert saved["epoch"] * 3 + saved["step"] == 4


@contextmanager
def disk_of(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond this: the kernel then refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1000], ids=["for nothing", "for less than the settings"])
def test_a_disk_that_is_full_before_a_run_has_a_folder_is_one_sentence(room: int, tiny: Experiment, tmp_path: Path):
    with disk_of(room), pytest.raises(RunFailed) as said:
        open_run(tmp_path, tiny, "0" * 64)
    assert str(said.value) == (
        f"the run could not be started, since {tmp_path / 'runs'} could not be written to (File too large); make room "
        "there, and the same command starts it, or goes on with what it had learnt"
    )
    folder = open_run(tmp_path, tiny, "0" * 64)
    assert list((tmp_path / "runs").iterdir()) == [folder.path]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, pytest.param({"lr": "auto"}, marks=pytest.mark.slow)], ids=["settings", "range test"]
)
def test_a_disk_that_is_full_before_the_first_step_is_one_sentence(
    settings: dict[str, str], tiny: Experiment, toy: Dataset, tmp_path: Path
):
    chosen = tiny.model_copy(update={"optimizer": tiny.optimizer.model_copy(update=settings)})
    folder = open_run(tmp_path, chosen, "0" * 64)
    room = len((folder.path / "experiment.json").read_bytes()) + 10 if settings else 10
    with disk_of(room), pytest.raises(RunFailed, match=r"the run could not be started, since .* \(File too large\)"):
        learn(chosen, toy, folder)
    learn(chosen, toy, folder)
    assert folder.learned


@pytest.mark.slow
def test_a_full_disk_costs_one_checkpoint_and_not_the_run(tiny: Experiment, toy: Dataset, tmp_path: Path):
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path, every_s=0, on_trouble=told.append)
    with pytest.raises(Stopped):
        trained(tiny, toy, checkpoints, stop=StopAfter(2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with disk_of(10_000):
        result = trained(tiny, toy, checkpoints)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert same(result, undisturbed(tiny))
    assert "no checkpoint could be written" in told[0]
    assert "File too large" in told[0]
    assert "training goes on" in told[0]
    assert same(trained(tiny, toy, Checkpoints(tmp_path)), result)


@pytest.mark.slow
def test_a_full_disk_costs_no_training_and_no_epoch_of_the_history(tiny: Experiment, toy: Dataset, tmp_path: Path):
    folder, told = open_run(tmp_path, tiny, "0" * 64), []
    with ExitStack() as full:

        def fill(record: EpochRecord) -> None:
            if record.epoch == 0:
                full.enter_context(disk_of(10))  # for the second epoch
            else:
                full.close()

        learn(tiny, toy, folder, on_epoch=fill, on_trouble=told.append)
    assert [record.epoch for record in folder.history()] == [0, 1, 2]
    assert any("epoch 2 could not be written down" in sentence and "goes on" in sentence for sentence in told)
    assert folder.learned


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_very_end_is_one_sentence_and_the_run_goes_on_once_there_is_room(
    tiny: Experiment, toy: Dataset, tmp_path: Path
):
    folder = open_run(tmp_path, tiny, "0" * 64)
    with ExitStack() as full:

        def fill(record: EpochRecord) -> None:
            if record.epoch == 2:
                full.enter_context(disk_of(10))  # for the last checkpoint and the weights

        with pytest.raises(RunFailed) as said:
            learn(tiny, toy, folder, on_epoch=fill)
    assert str(said.value) == (
        f"the trained network could not be written to {folder.path} (File too large); the last checkpoint stays: make "
        f"room, and the same command or `trainserve run --resume {folder.run_id}` goes on from it"
    )
    assert list(folder.checkpoint.glob("*.pt"))
    assert not folder.learned
    learn(tiny, toy, folder)
    weights = load_file(folder.weights_file)
    assert all(torch.equal(weights[name], tensor) for name, tensor in undisturbed(tiny).weights.items())
    assert not folder.checkpoint.exists()


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path):
    (tmp_path / "checkpoint-12.pt.bak").write_text("mine")
    checkpoints = Checkpoints(tmp_path)
    for number in range(4):
        checkpoints.save({"number": number})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-0000000002.pt", "checkpoint-0000000003.pt", "checkpoint-12.pt.bak",
    ]  # fmt: skip


@pytest.mark.parametrize("prefetch", [0, 1, 7])
def test_streaming_and_prefetching_give_the_same_weights(prefetch: int, tiny: Experiment, toy: Dataset):
    assert Pictures(toy.images.pixels).resident
    assert same(trained(tiny, toy, None, resident=False, prefetch=prefetch), undisturbed(tiny))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
def test_a_run_that_is_asked_to_stop_while_a_batch_size_is_looked_for_stops_there(tiny: Experiment, toy: Dataset):
    chosen = Experiment.model_validate(tiny.model_dump() | {"train": {"batch_size": "auto"}})
    pictures = Pictures(toy.images.pixels, "cuda")
    with pytest.raises(Stopped, match=r"^before the first step, during the search for a batch size$"):
        learner_for(chosen, toy.images, pictures, train=toy.split.train, val=toy.split.val, seed=0, stop=lambda: True)
