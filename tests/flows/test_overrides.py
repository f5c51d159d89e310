"""Preset, file and flags -> one experiment, or one sentence."""

from pathlib import Path

import pytest

from data.errors import InputError
from flows.cli.fields import settings
from flows.cli.overrides import experiment
from flows.presets import PRESETS
from models.config import Experiment
from models.training.config import SGDConfig
from models.zoo.config import CNNConfig, ViTConfig


def test_nothing_said_is_the_digits_preset():
    assert experiment([]) == PRESETS["digits"]


def test_a_preset_is_named_first_or_last():
    assert experiment(["cifar10-vit"]) == PRESETS["cifar10-vit"]
    assert experiment(["--train.seed", "3", "flowers"]).train.seed == 3


def test_another_source_starts_from_the_defaults_not_from_digits():
    chosen = experiment(["--dataset.source", "flowers/"])
    assert chosen.train == Experiment().train
    assert chosen.name == "custom"


def test_a_value_follows_a_space_or_an_equals_sign():
    assert experiment(["--train.epochs", "7"]) == experiment(["--train.epochs=7"])


def test_dashes_and_underscores_are_one():
    assert experiment(["--train.batch-size", "7"]).train.batch_size == 7


def test_a_bare_flag_means_yes():
    assert experiment(["--augment.flip", "--train.epochs", "9"]).augment.flip is True
    assert experiment(["--augment.flip", "no"]).augment.flip is False
    assert experiment(["--augment.flip", "flowers"]).name == "flowers"


def test_none_unsets():
    assert experiment(["--train.clip_norm", "none"]).train.clip_norm is None


def test_a_list_is_separated_by_commas():
    assert experiment(["--optimizer.betas", "0.8,0.95"]).optimizer.betas == (0.8, 0.95)  # type: ignore[union-attr]


def test_a_choice_of_numbers_is_read_as_numbers():
    assert experiment(["--dataset.channels", "1"]).dataset.channels == 1


def test_devices_are_a_kind_or_a_number():
    assert experiment(["--train.devices", "2"]).train.devices == 2
    assert experiment(["--train.devices", "cuda"]).train.devices == "cuda"


def test_a_change_of_kind_drops_the_fields_of_the_other_kind():
    chosen = experiment(["--model.kind", "vit", "--model.dim", "64", "--optimizer.kind", "sgd"])
    assert chosen.model == ViTConfig(dim=64)
    assert chosen.optimizer == SGDConfig()


def test_the_same_kind_keeps_what_the_preset_says():
    assert experiment(["digits", "--model.kind", "cnn", "--model.width", "16"]).model == CNNConfig(width=16)


def test_flags_are_laid_over_the_file(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nmodel: {kind: vit, heads: 2}\ntrain: {epochs: 11, seed: 4}\n")
    chosen = experiment(["--train.seed", "5"], config=file)
    assert (chosen.name, chosen.train.epochs, chosen.train.seed) == ("mine", 11, 5)
    assert chosen.model == ViTConfig(heads=2)


def test_every_value_of_every_preset_can_be_typed():
    """What the help lists is what is accepted."""
    for preset in PRESETS.values():
        tokens = []
        for setting in settings():
            section, _, field = setting.path.rpartition(".")
            owner = getattr(preset, section) if section else preset
            if setting.kind is not None and owner.kind != setting.kind:
                continue
            value = getattr(owner, field)
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            tokens += [f"--{setting.path}", text]
        assert experiment(tokens) == preset


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        (["--train.epoch", "3"], ["--train.epoch", "did you mean --train.epochs"]),
        (["--lr", "3"], ["--lr", "--optimizer.lr"]),
        (["--zzz", "3"], ["--zzz", "trainserve run --help"]),
        (["--train", "3"], ["--train is a group", "--train.epochs"]),
        (["--train.epochs"], ["--train.epochs has no value"]),
        (["--train.epochs", "--json"], ["--train.epochs has no value"]),
        (["--train.epochs", "0"], ["train.epochs is 0", "greater than 0"]),
        (["--train.epochs", "many"], ["train.epochs is 'many'", "integer"]),
        (["--train.epochs", "3", "--train.epochs", "4"], ["given twice"]),
        (
            ["--train.devices", "tpu"],
            ["train.devices is 'tpu'; it should be", "'cuda'", "or should be a valid integer"],
        ),
        (["--train.devices", "0"], ["train.devices is 0; it should be", "greater than or equal to 1"]),
        (["--model.kind", "resnet"], ["model.kind is 'resnet'", "cnn or vit"]),
        (["--model.dim", "64"], ["model.dim belongs to model.kind vit"]),
        (["--model.kind", "vit", "--model.heads", "3"], ["model: heads 3 does not divide dim"]),
        (["--crossval.folds", "1"], ["folds 1 leaves nothing"]),
        (["--optimizer.betas", "0.9"], ["optimizer.betas"]),
        (["--name", "My Run"], ["name is 'My Run'", "lower-case"]),
        (["digit"], ["no preset 'digit'", "did you mean digits"]),
        (["digits", "flowers"], ["'digits' and 'flowers'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value and value[0].startswith("-") else None,
)
def test_what_is_wrong_is_said_in_one_sentence(tokens: list[str], parts: list[str]):
    with pytest.raises(InputError) as refused:
        experiment(tokens)
    message = str(refused.value)
    assert "\n" not in message
    assert "pydantic" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("train: {epoch: 3}", "did you mean train.epochs"),
        ("trian: {}", "trian is not a known setting"),
        ("train: 3", "train is 3; it is a group of settings"),
        ("- 1", "holds list"),
        ("a: [", "is not valid YAML"),
        ("!!python/object/apply:os.system ['touch /tmp/owned']", "is not valid YAML"),
        ("train: {epochs: -1}", "train.epochs is -1"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, text: str, part: str):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        experiment([], config=file)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"no\.yaml is not there"):
        experiment([], config=tmp_path / "no.yaml")
