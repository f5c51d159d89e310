"""The settings as a report shows them: readable values, and who chose each."""

from pathlib import Path

import numpy as np
import pytest

from data.augment import PHOTOGRAPH_SIDE, resolve
from data.images import LARGEST_SIZE, Images
from data.prepare import Dataset
from data.snapshot import Snapshot
from data.spec import AugmentConfig, DatasetSpec, Frozen, ImageSpec
from data.split import Split
from data.validate import ValidationReport
from models.config import Experiment, TrainConfig
from models.evaluation.decided import decided
from models.evaluation.settings import Setting, settings
from models.records import FitSummary, RateTest
from models.run import RunFolder
from models.training.config import FocalConfig, MuonConfig
from models.training.plan import LEAST_EPOCHS, MOST_EPOCHS, STEPS
from models.training.trial import BATCH_SIZE
from models.zoo.config_pretrained import MAX_SIZE
from models.zoo.config_transformer import LocalAttention, ViTConfig

NUM_TRAIN = 40


def lines(experiment: Experiment, found: dict | None = None) -> dict[tuple[str, str], Setting]:
    return {(line.section, line.title): line for line in settings(experiment, found)}


def test_what_was_set_is_told_from_what_is_the_default():
    shown = lines(Experiment(train=TrainConfig(epochs=77)))
    assert shown["Training", "Epochs"] == Setting("Training", "Epochs", "77", "user")
    assert shown["Optimizer", "Learning rate"] == Setting("Optimizer", "Learning rate", "0.002", "default")
    assert shown["Training", "Seed"].value == "0"
    assert shown["Training", "Minutes"] == Setting("Training", "Minutes", "none", "default")


def test_by_default_nothing_is_shown_as_set():
    assert [line.title for line in settings(Experiment()) if line.by == "user"] == []


def test_another_kind_is_a_choice_and_a_value_inside_another_has_a_line_of_its_own():
    train = TrainConfig(loss=FocalConfig(class_weights="balanced"))
    shown = lines(Experiment(model=ViTConfig(attention=LocalAttention()), train=train))
    assert shown["Model", "Kind"] == Setting("Model", "Kind", "vit", "user")
    assert shown["Model", "Attention"] == Setting("Model", "Attention", "local", "user")
    assert shown["Training", "Loss"] == Setting("Training", "Loss", "focal", "user")
    assert shown["Training", "Gamma"] == Setting("Training", "Gamma", "2", "default")
    assert shown["Training", "Class weights"] == Setting("Training", "Class weights", "balanced", "user")


@pytest.mark.parametrize("experiment", [Experiment(), Experiment(model=ViTConfig())])
def test_no_value_is_written_as_python_would(experiment: Experiment):
    values = [line.value for line in settings(experiment)]
    assert "0.9, 0.999" in values
    assert not [value for value in values if "=" in value or "(" in value or value in ("None", "True", "False")]


def test_a_decided_value_stands_in_for_one_that_was_left_open():
    found = {"train.epochs": 52, "augment.flip": False, "train.precision": "bfloat16", "augment.rand_operations": None}
    shown = lines(Experiment(), found)
    assert shown["Training", "Epochs"] == Setting("Training", "Epochs", "52", "program")
    assert shown["Augmentation", "Mirror"] == Setting("Augmentation", "Mirror", "no", "program")
    assert shown["Training", "Precision"] == Setting("Training", "Precision", "bfloat16", "program")
    assert shown["Augmentation", "RandAugment's operations"].value == "not used"
    given = lines(Experiment(train=TrainConfig(epochs=7)), found)
    assert given["Training", "Epochs"] == Setting("Training", "Epochs", "7", "user")


def test_what_was_decided_but_not_recorded_is_told_in_the_words_of_the_form():
    shown = lines(Experiment())["Training", "Checkpoints"]
    assert shown == Setting("Training", "Checkpoints", "every 30 seconds, and at the end of an epoch", "program")


def of_photographs(**asked: str) -> AugmentConfig:
    image = ImageSpec(height=PHOTOGRAPH_SIDE, width=PHOTOGRAPH_SIDE)
    return resolve(AugmentConfig.model_validate(asked), image, mirror=True, any_size=True)


@pytest.mark.parametrize(
    ("section", "field", "said"),
    [
        (TrainConfig, "epochs", f"by default what {STEPS:,} steps take, from {LEAST_EPOCHS} to {MOST_EPOCHS}"),
        (TrainConfig, "batch_size", f"by default {BATCH_SIZE}, "),
        (DatasetSpec, "max_size", f"by default {LARGEST_SIZE}, and {MAX_SIZE} for a pretrained backbone"),
        (AugmentConfig, "zoom", f"by default 0, and {of_photographs().zoom:g} for photographs"),
        (AugmentConfig, "zoom", f"pictures of {PHOTOGRAPH_SIDE} pixels a side or more"),
        (AugmentConfig, "grow", f"by default 0, and {of_photographs().grow:g} for photographs"),
        (AugmentConfig, "rotate", f"by default {of_photographs().rotate:g}, "),
        (AugmentConfig, "rotate", f"and {of_photographs(policy='none').rotate:g} for photographs with policy none"),
        (AugmentConfig, "color", f"by default {of_photographs().color:g}, "),
        (AugmentConfig, "color", f"and {of_photographs(policy='none').color:g} for photographs with policy none"),
        (AugmentConfig, "policy", f"and {of_photographs().policy} for photographs"),
    ],
)
def test_the_form_says_the_defaults_that_the_program_takes(section: type[Frozen], field: str, said: str):
    assert said in (section.model_fields[field].description or "")


def dataset(side: int) -> Dataset:
    """40 training pictures that exist as a listing only."""
    none = np.empty(0, dtype=np.int64)
    labels = np.arange(NUM_TRAIN) % 2
    files = tuple(f"{i}.png" for i in range(NUM_TRAIN))
    digests = tuple(f"{i:064x}" for i in range(NUM_TRAIN))
    snapshot = Snapshot("lamps", Path(), ("a", "b"), files, labels, digests, labels, (None,) * NUM_TRAIN, mirror=True)
    image = ImageSpec(height=side, width=side)
    images = Images(snapshot, image, np.arange(NUM_TRAIN), np.zeros((NUM_TRAIN, 1, 1, 3), np.uint8), ())
    report = ValidationReport(
        name="lamps",
        fingerprint="f",
        num_examples=NUM_TRAIN,
        num_unreadable=0,
        height=side,
        width=side,
        channels=3,
        classes=(),
        findings=(),
    )
    return Dataset(images, Split(train=np.arange(NUM_TRAIN), val=none, test=none), report)


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.write_fit(
        FitSummary(
            epochs_planned=52,
            epochs_run=52,
            best_epoch=1,
            stopped_early=False,
            seconds=1.0,
            images_per_s=1.0,
            parameters=1,
            device="cpu (x86_64, 1 thread)",
        )
    )
    return folder


def test_what_is_decided_from_photographs_and_the_machine_is_found_again(folder):
    found = decided(Experiment(train=TrainConfig(devices="cpu", precision="auto")), dataset(64), folder)
    assert found["dataset.size"] == 64
    assert found["dataset.name"] == "lamps"
    assert found["train.epochs"] == 52
    assert found["train.patience"] == 17
    assert found["train.batch_size"] == NUM_TRAIN  # all of a small set
    assert found["train.precision"] in ("float32", "bfloat16")
    assert (found["augment.zoom"], found["augment.grow"], found["augment.flip"]) == (0.75, 0.6, True)
    assert found["augment.policy"] == "trivial"
    assert "train.devices" not in found
    folder.write_fit(folder.fit().model_copy(update={"patience": 5}))  # of a run that was stopped before a revision
    assert decided(Experiment(), dataset(64), folder)["train.patience"] == 5
    shown = settings(Experiment(), found)
    limits = {"Least accuracy", "Least recall", "Largest calibration error", "Latency", "Bundle size"}
    unasked = {"SHA-256", "Minutes", "Class weights", "Group", "Label", "Quantize"}
    assert {line.title for line in shown if line.value == "none"} == unasked | limits


def test_what_was_asked_for_is_not_listed_as_decided(folder):
    experiment = Experiment(
        dataset=DatasetSpec(size=32), augment=AugmentConfig(zoom=0.5), train=TrainConfig(batch_size=8, patience=4)
    )
    found = decided(experiment, dataset(32), folder)
    assert not found.keys() & {"dataset.size", "augment.zoom", "train.batch_size", "train.patience"}
    assert found["dataset.max_size"] is None  # means nothing beside a size


def test_a_rate_and_a_batch_size_found_by_trying_are_told(folder):
    folder.write_rate_test(RateTest(chosen=0.004, rates=(1.0,), losses=(1.0,), smooth=(1.0,)))
    folder.write_batch_size(512)
    experiment = Experiment(optimizer=MuonConfig(lr="auto"), train=TrainConfig(batch_size="auto"))
    shown = lines(experiment, decided(experiment, dataset(16), folder))
    assert shown["Optimizer", "Learning rate"] == Setting("Optimizer", "Learning rate", "0.004", "program")
    assert shown["Training", "Batch size"] == Setting("Training", "Batch size", "512", "program")


def test_the_form_states_the_largest_size_that_is_used():
    assert f"by default {LARGEST_SIZE}" in str(DatasetSpec.model_fields["max_size"].description)
