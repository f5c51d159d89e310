"""Preset, file and flags -> one experiment, or one sentence."""

from pathlib import Path
from typing import Any

import pytest

from data.errors import InputError
from flows.presets import PRESETS
from flows.settings.fields import settings
from flows.settings.overrides import experiment
from models.config import Experiment
from models.training.config import CosineConfig, FocalConfig, LinearConfig, OneCycleConfig, SGDConfig, StepConfig
from models.zoo.config import CNNConfig
from models.zoo.config_transformer import ConvViTConfig, LinformerAttention, LocalAttention, ViTConfig


def test_nothing_said_is_the_digits_preset():
    assert experiment([]) == PRESETS["digits"]


def test_a_preset_is_named_first_or_last():
    assert experiment(["cifar10-vit"]) == PRESETS["cifar10-vit"]
    assert experiment(["--train.seed", "3", "flowers"]).train.seed == 3


def test_another_source_starts_from_the_defaults_not_from_digits():
    chosen = experiment(["--dataset.source", "flowers/"])
    assert chosen.train == Experiment().train
    assert chosen.name == "custom"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_may_be_given_other_epochs_and_another_schedule(name: str):
    chosen = experiment([name, "--train.epochs", "2", "--schedule.kind", "plateau"])
    assert (chosen.train.epochs, chosen.train.patience) == (2, PRESETS[name].train.patience)


def test_patience_is_a_number_or_never():
    assert experiment(["--train.patience", "3"]).train.patience == 3
    assert experiment(["--train.patience", "never"]).train.patience == "never"
    assert experiment(["cifar10-long", "--train.patience", "none"]).train.patience is None


def test_a_value_follows_a_space_or_an_equals_sign():
    assert experiment(["--train.epochs", "7"]) == experiment(["--train.epochs=7"])


def test_dashes_and_underscores_are_one():
    assert experiment(["--train.batch-size", "7"]).train.batch_size == 7


@pytest.mark.parametrize("between", ["-", "_"])
def test_a_choice_may_be_written_with_dashes_or_underscores(between: str, tmp_path: Path):
    one_cycle, conv_vit, cross_entropy = (f"one{between}cycle", f"conv{between}vit", f"cross{between}entropy")
    chosen = experiment(["--schedule.kind", one_cycle, "--model.kind", conv_vit, "--train.loss.kind", cross_entropy])
    assert (chosen.schedule, chosen.model) == (OneCycleConfig(), ConvViTConfig())
    file = tmp_path / "mine.yaml"
    file.write_text(f"model: {{kind: {conv_vit}}}\ntrain: {{loss: {{kind: {cross_entropy}}}}}")
    assert experiment(["--schedule.kind", one_cycle], config=file) == Experiment(
        schedule=OneCycleConfig(), model=ConvViTConfig()
    )
    assert experiment(["--train.monitor", f"val{between}loss"]).train.monitor == "val_loss"
    assert experiment([f"digits{between}vit"]) == PRESETS["digits-vit"]


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


def test_a_kind_inside_a_section_is_chosen_as_the_outer_ones_are():
    assert experiment(["--train.loss.kind", "focal", "--train.loss.gamma", "3"]).train.loss == FocalConfig(gamma=3)
    assert experiment(["--train.label_smoothing", "0.2"]).train.loss == Experiment().train.loss


def test_a_schedule_is_chosen_by_its_kind():
    assert experiment(["--schedule.kind", "cosine", "--schedule.warmup", "0.1"]).schedule == CosineConfig(warmup=0.1)
    assert experiment(["--schedule.warmup", "0.1"]).schedule == CosineConfig(warmup=0.1)
    assert experiment(["--schedule.kind", "linear"]).schedule == LinearConfig()
    steps = ["--schedule.kind", "step", "--schedule.milestones", "0.3,0.6,0.9"]
    assert experiment(steps).schedule == StepConfig(milestones=(0.3, 0.6, 0.9))


def test_auto_is_a_word_of_its_own_where_numbers_stand_beside_it():
    chosen = experiment(["--optimizer.lr", "auto", "--train.batch_size", "auto"])
    assert (chosen.optimizer.lr, chosen.train.batch_size) == ("auto", "auto")
    assert experiment(["--train.batch_size", "none"]).train.batch_size is None
    assert experiment(["--optimizer.lr", "0.25"]).optimizer.lr == 0.25
    assert experiment(["--train.epochs", "auto"]).train.epochs is None


def test_what_stands_beside_auto_is_told_with_its_limits():
    told = {setting.path: setting for setting in settings()}
    assert (told["optimizer.lr"].type, told["optimizer.lr"].limits) == ("number | auto", "more than 0")
    assert (told["train.batch_size"].type, told["train.batch_size"].limits) == (
        "integer | auto",
        "more than 0, at most 65 536",
    )


def test_a_number_of_layers_is_read_for_the_kind_that_has_it():
    for kind, layers in (("resnet", 18), ("resnet", 50), ("vgg", 11), ("vgg", 19)):
        assert experiment(["--model.kind", kind, "--model.layers", str(layers)]).model.layers == layers  # type: ignore[union-attr]


def test_an_attention_is_chosen_inside_a_model():
    local = ViTConfig(attention=LocalAttention(window=7))
    tokens = ["--model.attention.kind", "local", "--model.attention.window", "7"]
    assert experiment(["--model.kind", "vit", *tokens]).model == local
    assert experiment(["digits-vit", *tokens]).model == local
    assert experiment(["digits-vit", *tokens, "--model.kind", "conv_vit"]).model == ConvViTConfig(
        attention=LocalAttention(window=7)
    )


def test_a_change_of_attention_drops_the_fields_of_the_other(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("model: {kind: vit, dim: 64, attention: {kind: local, window: 7}}\n")
    chosen = experiment(["--model.attention.kind", "linformer"], config=file)
    assert chosen.model == ViTConfig(dim=64, attention=LinformerAttention())
    assert experiment(["--model.attention.window", "9"], config=file).model == ViTConfig(
        dim=64, attention=LocalAttention(window=9)
    )


def test_the_same_kind_keeps_what_the_preset_says():
    assert experiment(["digits", "--model.kind", "cnn", "--model.width", "16"]).model == CNNConfig(width=16)


def test_flags_are_laid_over_the_file(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nmodel: {kind: vit, heads: 2}\ntrain: {epochs: 11, seed: 4}\n")
    chosen = experiment(["--train.seed", "5"], config=file)
    assert (chosen.name, chosen.train.epochs, chosen.train.seed) == ("mine", 11, 5)
    assert chosen.model == ViTConfig(heads=2)


@pytest.mark.slow
def test_every_value_of_every_preset_can_be_typed():
    """What the help lists is what is accepted."""
    for preset in PRESETS.values():
        typed = {}
        for setting in settings():
            *section, field = setting.path.split(".")
            owner: Any = preset
            for name in section:
                owner = getattr(owner, name, None)
            if owner is None or (field != "kind" and setting.kind is not None and owner.kind != setting.kind):
                continue
            value = getattr(owner, field)
            typed[setting.path] = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert experiment([f"--{path}={text}" for path, text in typed.items()]) == preset


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
        (["--model.kind", "resent"], ["model.kind is 'resent', which is not known", "did you mean resnet? use one of"]),
        (["--model.kind", "VGG16"], ["model.kind is 'VGG16'", "did you mean vgg?"]),
        (["--model.kind", "zzz"], ["model.kind is 'zzz', which is not known; use one of cnn, vit, "]),
        (["--optimizer.kind", "adam_w"], ["optimizer.kind is 'adam_w'", "did you mean adamw or adam?"]),
        (["--model.kind", "vgg", "--model.layers", "18"], ["model.layers is 18", "11, 13, 16 or 19"]),
        (["--model.dim", "64"], ["model.dim belongs to model.kind vit"]),
        (["--model.kind", "vit", "--model.heads", "3"], ["model: heads 3 does not divide dim"]),
        (["--model.attention.kind", "local"], ["model.attention belongs to model.kind vit or conv_vit"]),
        (
            ["digits-vit", "--model.attention.window", "7"],
            ["model.attention.window belongs to model.attention.kind local;"],
        ),
        (["--model.kind", "vit", "--model.attention.rank", "7"], ["belongs to model.attention.kind linformer;"]),
        (
            ["digits-vit", "--model.attention.kind", "lokal"],
            ["model.attention.kind is 'lokal'", "use one of full, local"],
        ),
        (
            ["digits-vit", "--model.attention.kind", "local", "--model.attention.window", "4"],
            ["model.attention: window 4 has no centre; use 3 or 5"],
        ),
        (["digits-vit", "--model.attention.kind", "local", "--model.attention.windw", "4"], ["did you mean --model."]),
        (["digits-vit", "--model.position", "rotary", "--model.heads", "64"], ["model.heads is 64"]),
        (["--crossval.folds", "1"], ["folds 1 leaves nothing"]),
        (["--optimizer.betas", "0.9"], ["optimizer.betas"]),
        (["--optimizer.lr", "-1"], ["optimizer.lr is -1; it should be greater than 0"]),
        (["--optimizer.lr", "inf"], ["optimizer.lr is inf; it should be a finite number"]),
        (["--train.max_minutes", "inf"], ["train.max_minutes is inf"]),
        (["--optimizer.lr", "fast"], ["optimizer.lr is 'fast'; it should be a valid number"]),
        (["--train.batch_size", "0"], ["train.batch_size is 0; it should be greater than 0"]),
        (["--train.loss.gamma", "3"], ["train.loss.gamma belongs to train.loss.kind focal"]),
        (["--train.loss.kind", "hinge"], ["train.loss.kind is 'hinge'", "focal"]),
        (["--schedule.kind", "cosin"], ["schedule.kind is 'cosin'", "cosine"]),
        (["--schedule.kind", "linear", "--schedule.gamma", "0.1"], ["schedule.gamma belongs to schedule.kind step"]),
        (["--schedule.kind", "step", "--schedule.milestones", "0.5,0.2"], ["(0.5, 0.2) do not rise"]),
        (["--train.patience", "0"], ["train.patience is 0; it should be greater than 0, or should be 'never'"]),
        (["--train.patience", "9", "--train.epochs", "9"], ["patience 9 can never end", "less than 9, or never"]),
        (["--schedule.kind", "plateau", "--train.patience", "3"], ["schedule.patience 3", "train.patience 3"]),
        (["--dataset.gate.labels.level", "stop"], ["labels.level stop needs networks", "set crossval.folds to 3"]),
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
        ("model: {kind: resnet18}", "model.kind is 'resnet18', which is not known; did you mean resnet"),
        ("optimizer: {kind: muno}", "optimizer.kind is 'muno', which is not known; did you mean muon?"),
        ("model: {kind: 3}", "model.kind is '3', which is not known; use one of cnn, vit, "),
        ("model: {kind: null}", "model.kind is 'None', which is not known; use one of cnn, vit, "),
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
