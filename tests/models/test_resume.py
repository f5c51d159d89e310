"""A run that is killed goes on and ends with the bits of one that is not: in the process, and by SIGKILL."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.errors import InputError
from data.loader import Pictures, TrainBatches
from data.prepare import Dataset
from data.spec import AugmentConfig
from models.config import Experiment, TrainConfig
from models.records import EpochRecord
from models.run import RunFolder, open_run
from models.training.checkpoint import Checkpoints
from models.training.config import (
    AdadeltaConfig,
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    CosineConfig,
    FocalConfig,
    MuonConfig,
    OptimizerConfig,
    PlateauConfig,
    RMSpropConfig,
    ScheduleConfig,
    SGDConfig,
)
from models.training.fit import FitResult, begin
from models.training.learn import Learner, learn, learner_for, run_fit
from models.zoo.config import CNNConfig
from models.zoo.config_classic import SoftmaxConfig
from tests.models.conftest import toy_dataset

CHANGED = AugmentConfig(crop=2, flip=True, erase=0.5, mixup=0.2)
EVERY_STEP = 0.0  # seconds


def experiment(
    optimizer: OptimizerConfig = AdamWConfig(),  # noqa: B008
    schedule: ScheduleConfig = CosineConfig(),  # noqa: B008
    **settings: object,
) -> Experiment:
    return Experiment(
        model=CNNConfig(width=8, dropout=0.2),
        optimizer=optimizer,
        schedule=schedule,
        augment=CHANGED,
        train=TrainConfig(**{"epochs": 3, "batch_size": 16, "devices": "cpu"} | settings),
    )


class Killed(Exception):  # noqa: N818
    """In place of SIGKILL."""


class KilledAt:
    """Batches that end in the middle, as a process does."""

    def __init__(self, batches: TrainBatches, epoch: int, step: int) -> None:
        self.batches, self.when = batches, (epoch, step)
        self.batch_size, self.of_size = batches.batch_size, batches.of_size

    @property
    def steps_per_epoch(self) -> int:
        return self.batches.steps_per_epoch

    @property
    def growing(self) -> float:
        return self.batches.growing

    def epoch(self, epoch: int, *, start_step: int = 0, done: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
        for step, batch in enumerate(self.batches.epoch(epoch, start_step=start_step, done=done), start_step):
            if (epoch, step) == self.when:
                raise Killed
            yield batch


def learner_of(chosen: Experiment, toy: Dataset) -> Learner:
    return learner_for(
        chosen, toy.images, Pictures(toy.images.pixels), train=toy.split.train, val=toy.split.val, seed=0
    )


def trained(
    chosen: Experiment, toy: Dataset, checkpoints: Checkpoints | None, killed_at: tuple[int, int] | None = None
):
    learner = learner_of(chosen, toy)
    if killed_at is not None:
        learner = dataclasses.replace(learner, batches=KilledAt(learner.batches, *killed_at))
    return run_fit(chosen, learner, checkpoints=checkpoints)


@cache
def undisturbed() -> FitResult:
    return trained(experiment(), toy_dataset(), None)


def assert_same(one: FitResult, other: FitResult) -> None:
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    clocks = {"seconds", "images_per_s"}
    assert [r.model_dump(exclude=clocks) for r in one.history] == [r.model_dump(exclude=clocks) for r in other.history]
    assert one.summary.best_epoch == other.summary.best_epoch


@pytest.mark.parametrize(
    "every_s",
    [EVERY_STEP, pytest.param(3600.0, marks=pytest.mark.slow)],
    ids=["saved every step", "saved every epoch"],
)
@pytest.mark.parametrize("when", [(0, 0), (0, 2), (1, 0), (2, 1)], ids=str)
def test_a_run_killed_anywhere_ends_with_the_same_bits(toy: Dataset, tmp_path: Path, when, every_s):
    with pytest.raises(Killed):
        trained(experiment(), toy, Checkpoints(tmp_path, every_s=every_s, epoch_s=0), killed_at=when)
    resumed = trained(experiment(), toy, Checkpoints(tmp_path, every_s=every_s, epoch_s=0))
    assert_same(resumed, undisturbed())


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        experiment(SGDConfig()),
        experiment(ema=0.9),
        experiment(max_minutes=60.0),
        experiment(accumulate=3, loss=FocalConfig(class_weights="balanced")),
        experiment(sampling="balanced"),
    ],
    ids=["sgd", "moving average", "minutes", "accumulation and weighted loss", "balanced"],
)
def test_momentum_average_and_plan_survive_a_kill(toy: Dataset, tmp_path: Path, chosen: Experiment):
    for when in ((0, 2), (1, 1), (2, 2)):
        with pytest.raises(Killed):
            trained(chosen, toy, Checkpoints(tmp_path, every_s=EVERY_STEP), killed_at=when)
    assert_same(trained(chosen, toy, Checkpoints(tmp_path)), trained(chosen, toy, None))


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [MuonConfig(), AdamConfig(), RMSpropConfig(momentum=0.5), AdagradConfig(), AdadeltaConfig()],
    ids=lambda config: config.kind,
)
def test_every_optimiser_survives_a_kill(toy: Dataset, tmp_path: Path, optimizer: OptimizerConfig):
    chosen = experiment(optimizer)
    with pytest.raises(Killed):
        trained(chosen, toy, Checkpoints(tmp_path, every_s=EVERY_STEP), killed_at=(1, 1))
    assert_same(trained(chosen, toy, Checkpoints(tmp_path)), trained(chosen, toy, None))


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize("optimizer", [MuonConfig(), AdagradConfig()], ids=lambda config: config.kind)
def test_a_resumed_optimiser_counts_on_the_cpu_and_keeps_the_rest_where_the_weights_are(
    toy: Dataset, tmp_path: Path, optimizer: OptimizerConfig
):
    """A count that lay on a GPU would be waited for at every step, weight by weight. The meta device stands for one."""
    chosen = experiment(optimizer)
    with pytest.raises(Killed):
        trained(chosen, toy, Checkpoints(tmp_path, every_s=EVERY_STEP), killed_at=(0, 2))
    learner = learner_of(chosen, toy)
    training = begin(
        learner.net.to("meta"),
        learner.batches,
        learner.validate,
        optimizer=chosen.optimizer,
        schedule=chosen.schedule,
        config=chosen.train,
        checkpoints=Checkpoints(tmp_path),
    )
    kept = [(key, tensor) for state in training.optimizer.state.values() for key, tensor in state.items()]
    assert {tensor.device.type for key, tensor in kept if key == "step"} == {"cpu"}
    assert {tensor.device.type for key, tensor in kept if key != "step"} == {"meta"}
    assert training.sums.device.type == "meta"


@pytest.mark.slow
def test_a_plateau_is_remembered(toy: Dataset, tmp_path: Path):
    """With a rate at which nothing moves, every epoch after the first is as bad as it: the rate falls twice."""
    schedule = PlateauConfig(patience=1, gamma=0.5, warmup=0)
    chosen = experiment(AdamWConfig(lr=1e-12, weight_decay=0), schedule, epochs=4, patience=3, ema=None)
    whole = trained(chosen, toy, None)
    assert len({record.lr for record in whole.history}) > 1
    for when in ((1, 1), (3, 1)):
        with pytest.raises(Killed):
            trained(chosen, toy, Checkpoints(tmp_path, every_s=EVERY_STEP), killed_at=when)
    assert_same(trained(chosen, toy, Checkpoints(tmp_path)), whole)


@pytest.mark.slow
def test_a_rate_that_was_found_by_trying_is_kept_and_not_looked_for_again(toy: Dataset, tmp_path: Path):
    chosen, told = experiment(AdamWConfig(lr="auto")).model_copy(update={"model": SoftmaxConfig()}), []

    def end_of_the_second_epoch(record: EpochRecord) -> None:
        if record.epoch == 1:
            raise Killed

    def run(checkpoints: Checkpoints | None, **listeners: object) -> FitResult:
        return run_fit(chosen, learner_of(chosen, toy), checkpoints=checkpoints, on_rates=told.append, **listeners)

    with pytest.raises(Killed):
        run(Checkpoints(tmp_path), on_epoch=end_of_the_second_epoch)
    resumed = run(Checkpoints(tmp_path))
    assert len(told) == 1
    assert max(record.lr for record in resumed.history) <= told[0].chosen
    assert_same(resumed, run(None))
    assert told[0] == told[1]


@pytest.mark.slow
def test_only_what_was_not_done_is_done_again(toy: Dataset, tmp_path: Path):
    with pytest.raises(Killed):
        trained(experiment(), toy, Checkpoints(tmp_path, every_s=EVERY_STEP), killed_at=(1, 2))
    told = []
    run_fit(experiment(), learner_of(experiment(), toy), checkpoints=Checkpoints(tmp_path), on_epoch=told.append)
    assert [record.epoch for record in told] == [1, 2]


@pytest.mark.slow
def test_patience_is_not_forgotten(toy: Dataset, tmp_path: Path):
    chosen = experiment(AdamWConfig(lr=1e-12), epochs=9, patience=2, monitor="val_loss")
    with pytest.raises(Killed):
        trained(chosen, toy, Checkpoints(tmp_path), killed_at=(2, 0))
    assert_same(trained(chosen, toy, Checkpoints(tmp_path)), trained(chosen, toy, None))


def test_a_finished_run_is_not_trained_again(toy: Dataset, tmp_path: Path):
    first = trained(experiment(), toy, Checkpoints(tmp_path))
    assert_same(trained(experiment(), toy, Checkpoints(tmp_path), killed_at=(0, 0)), first)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(toy: Dataset, tmp_path: Path):
    with pytest.raises(Killed):
        trained(experiment(), toy, Checkpoints(tmp_path, every_s=EVERY_STEP), killed_at=(1, 2))
    newest = max(tmp_path.glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert_same(trained(experiment(), toy, Checkpoints(tmp_path)), undisturbed())


def half_trained(toy: Dataset, folder: Path) -> None:
    with pytest.raises(Killed):
        trained(experiment(), toy, Checkpoints(folder, every_s=EVERY_STEP), killed_at=(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (
            {"model": CNNConfig(width=16)},
            r"1\.features\.0\.kernel\.weight is \(8, 3, 3, 3\) there and \(16, 3, 3, 3\) here",
        ),
        ({"optimizer": SGDConfig()}, r"its optimizer has .*betas.* and this one .*nesterov"),
        ({"train": TrainConfig(epochs=3, batch_size=16, devices="cpu", ema=None)}, "it holds a moving average"),
    ],
    ids=["network", "optimizer", "average"],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence_with_the_way_on(toy: Dataset, tmp_path: Path, changed, named):
    """As after a change of the code: a change of the settings gives another folder."""
    half_trained(toy, tmp_path)
    other = Experiment.model_validate(dict(experiment()) | changed)
    with pytest.raises(InputError, match=named) as said:
        trained(other, toy, Checkpoints(tmp_path))
    assert "remove that folder to train this run afresh" in str(said.value)
    assert str(tmp_path) in str(said.value)
    assert "\n" not in str(said.value)


@pytest.mark.slow
def test_weights_that_changed_their_order_are_noticed(toy: Dataset, tmp_path: Path):
    half_trained(toy, tmp_path)
    newest = max(tmp_path.glob("*.pt"))
    packed = torch.load(newest, weights_only=True)
    state = packed["optimizer"]["state"]
    state[0], state[1] = state[1], state[0]
    torch.save(packed, newest)
    with pytest.raises(InputError, match=r"the optimizer's exp_avg of 1\.features\.0\.kernel\.weight is"):
        trained(experiment(), toy, Checkpoints(tmp_path))


@pytest.mark.slow
def test_a_checkpoint_of_an_older_form_is_one_sentence(toy: Dataset, tmp_path: Path):
    half_trained(toy, tmp_path)
    newest = max(tmp_path.glob("*.pt"))
    packed = torch.load(newest, weights_only=True)
    packed["plan"]["weeks"] = 3
    torch.save(packed, newest)
    with pytest.raises(InputError, match=r"of another form .*weeks"):
        trained(experiment(), toy, Checkpoints(tmp_path))


@pytest.mark.slow
def test_two_checkpoints_are_kept(toy: Dataset, tmp_path: Path):
    trained(experiment(), toy, Checkpoints(tmp_path, every_s=EVERY_STEP))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_that_carries_code_is_not_loaded(tmp_path: Path):
    class Code:
        def __reduce__(self):
            return os.system, ("touch " + str(tmp_path / "ran"),)

    torch.save({"net": Code()}, tmp_path / "checkpoint-0000000000.pt")
    assert Checkpoints(tmp_path).load() is None
    assert not (tmp_path / "ran").exists()


CHILD = """
import sys
from pathlib import Path
from models.training import learn
from models.training.checkpoint import Checkpoints
from tests.models.conftest import toy_dataset
from tests.models.test_resume import run_in

def allowed(record):
    print(record.epoch, flush=True)
    sys.stdin.readline()

learn.Checkpoints = lambda folder, **given: Checkpoints(folder, every_s=0.02, **given)
chosen, folder = run_in(Path(sys.argv[1]))
learn.learn(chosen, toy_dataset(), folder, on_epoch=allowed)
"""
EPOCHS = 20


def run_in(home: Path) -> tuple[Experiment, RunFolder]:
    chosen = experiment(epochs=EPOCHS, patience="never")
    return chosen, open_run(home, chosen, "f" * 64)


def killed_in_an_epoch(home: Path) -> None:
    """A process that goes on with the run until it is killed; it needs leave for every epoch, so that it cannot end."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(random.randint(1, 5)):
        assert process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
    time.sleep(random.uniform(0, 0.1))
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


@pytest.mark.slow
def test_kill_9_at_random_moments_then_the_same_command_gives_the_same_file(toy: Dataset, tmp_path: Path):
    for _ in range(2):
        killed_in_an_epoch(tmp_path / "killed")
    (chosen, folder), (_, other) = run_in(tmp_path / "killed"), run_in(tmp_path / "undisturbed")
    assert folder.history(), "it began afresh"
    assert not folder.learned
    learn(chosen, toy, folder)
    learn(chosen, toy, other)
    assert folder.weights_file.read_bytes() == other.weights_file.read_bytes()
    assert [record.epoch for record in folder.history()] == list(range(EPOCHS))
    assert not folder.checkpoint.exists()
