"""What is searched, from what people type: ranges, choices, short names, what belongs to a kind alone."""

import shlex
from collections.abc import Iterator

import pytest

from data.errors import InputError
from flows.presets import PRESETS
from flows.settings.overrides import experiment
from flows.sweep.result import SweepResult, TrialResult, command_for, ranked, rows
from flows.sweep.search import Choice, Dimension, Span, dimension, full_path, parsed, split, suggested, with_values
from models.config import Experiment, TrainConfig
from models.training.config import SGDConfig
from models.zoo.config import CNNConfig
from models.zoo.config_transformer import ViTConfig


def test_what_is_searched_is_told_from_what_all_trials_have():
    rest, search = split(["digits", "--search.lr", "1e-4..1e-2:log", "--train.epochs", "3", "--search.model.kind=a,b"])
    assert rest == ["digits", "--train.epochs", "3"]
    assert search == {"lr": "1e-4..1e-2:log", "model.kind": "a,b"}


def test_a_range_is_of_the_numbers_that_the_field_holds():
    assert dimension("optimizer.lr", "1e-4..1e-2:log") == Span(
        path="optimizer.lr", low=1e-4, high=1e-2, log=True, whole=False
    )
    assert dimension("train.epochs", "5..20") == Span(path="train.epochs", low=5, high=20, log=False, whole=True)
    assert dimension("train.batch_size", "16..256:log") == Span(
        path="train.batch_size", low=16, high=256, log=True, whole=True
    )


def test_choices_are_words_of_the_field_in_its_own_spelling():
    assert dimension("schedule.kind", "cosine,one_cycle") == Choice(path="schedule.kind", of=("cosine", "one-cycle"))
    assert dimension("train.batch_size", "32,64,auto") == Choice(path="train.batch_size", of=("32", "64", "auto"))
    assert dimension("optimizer.betas", "0.9,0.99/0.9,0.999") == Choice(
        path="optimizer.betas", of=("0.9,0.99", "0.9,0.999")
    )


def test_a_short_name_is_the_one_field_that_ends_so():
    assert full_path("lr") == "optimizer.lr"
    assert full_path("batch-size") == "train.batch_size"
    assert full_path("optimizer.weight_decay") == "optimizer.weight_decay"


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ({}, "nothing is searched; add such as --search.lr"),
        ({"kind": "cnn,vit"}, "--search.kind may be model.kind, model.attention.kind"),
        ({"learning": "1..2"}, "--search.learning is not a known setting"),
        ({"lr": "0.1"}, "leaves nothing to choose"),
        ({"lr": "0.1..0.01"}, "does not rise from its first number to its second"),
        ({"lr": "a..b"}, "is no range; write such as 1e-4..1e-2"),
        ({"lr": "0..1:log"}, "has no logarithm at 0"),
        ({"lr": "1e-4..1e-2:linear"}, "ends in 'linear'; write :log"),
        ({"epochs": "1.5..3"}, "a range of whole numbers"),
        ({"model.kind": "1..3"}, "model.kind is no number"),
        ({"model.kind": "cnn,resent"}, "did you mean resnet"),
        ({"lr": "-1..1"}, "optimizer.lr is -1.0; it should be greater than 0"),
        ({"label_smoothing": "0.1..2"}, "train.label_smoothing is 2.0; it should be less than 1"),
        ({"lr": "1e-3..1e-2", "optimizer.lr": "1e-4..1e-2"}, "--search.optimizer.lr is given twice"),
        ({"heads": "2,4"}, "belongs to model.kind"),
        ({"monitor": "val_loss,val_accuracy"}, "train.monitor is not searched"),
        ({"dataset.split_seed": "0..5"}, "dataset.split_seed is not searched"),
        ({"release.margin": "0.01..0.1"}, "release.margin is not searched"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_a_sentence(search: dict[str, str], says: str):
    with pytest.raises(InputError) as refused:
        parsed(search, Experiment())
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (["--search.lr"], "--search.lr has no value"),
        (["--search.lr", "--json"], "--search.lr has no value"),
        (["--search.lr", "1..2", "--search.lr=3..4"], "--search.lr is given twice"),
    ],
)
def test_words_that_do_not_go_together_are_refused(tokens: list[str], says: str):
    with pytest.raises(InputError) as refused:
        split(tokens)
    assert says in str(refused.value)


def answers(*texts: str) -> Iterator[str]:
    return iter(texts)


@pytest.mark.slow
def test_a_field_of_one_kind_is_asked_for_only_where_that_kind_is_chosen():
    search = {"heads": "2,4", "model.kind": "cnn,vit", "model.width": "8..32", "lr": "1e-4..1e-2:log"}
    space = parsed(search, Experiment())
    asked: list[str] = []

    def suggest(kind: str) -> dict[str, str]:
        def one(dimension: Dimension) -> str:
            asked.append(dimension.path)
            return kind if dimension.path == "model.kind" else dimension.ends[0]

        return suggested(space, Experiment(), one)

    assert suggest("cnn") == {"model.kind": "cnn", "model.width": "8", "optimizer.lr": "0.0001"}
    assert suggest("vit") == {"model.kind": "vit", "model.heads": "2", "optimizer.lr": "0.0001"}
    assert asked.count("model.heads") == asked.count("model.width") == 1


def test_what_all_trials_have_stays_with_the_kind_that_has_it():
    base = Experiment(model=ViTConfig(dim=64), train=TrainConfig(epochs=9))
    assert with_values(base, {"model.kind": "vit"}) == base
    other = with_values(base, {"model.kind": "cnn", "optimizer.kind": "sgd", "optimizer.lr": "0.05"})
    assert (other.model, other.optimizer, other.train.epochs) == (CNNConfig(), SGDConfig(lr=0.05), 9)


def test_a_number_is_tried_as_it_is_printed_and_never_beyond_the_range():
    span = Span(path="optimizer.lr", low=1.23444e-4, high=1e-2, log=True, whole=False)
    assert span.text(0.00314159265) == "0.003142"
    assert span.text(1.23444e-4) == "0.000123444"
    assert Span(path="train.epochs", low=5, high=20, log=False, whole=True).text(7.0) == "7"


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_says_the_very_settings_that_were_best(name: str):
    picked = {"model.kind": "conv_vit", "optimizer.lr": "0.0031", "train.clip_norm": "none", "augment.flip": "no"}
    best = with_values(PRESETS[name], picked)
    words = shlex.split(command_for(best))
    assert words[:3] == ["trainserve", "run", name]
    assert experiment(words[2:]) == best


def test_the_command_of_settings_without_a_preset_names_the_pictures():
    best = experiment(
        ["--dataset.source", "my flowers/", "--optimizer.kind", "sgd", "--optimizer.betas", "0.8,0.9"][:4]
    )
    words = shlex.split(command_for(best))
    assert words[2:4] == ["--dataset.source", "my flowers/"]
    assert experiment(words[2:]) == best


def test_the_best_comes_first_and_one_that_failed_last():
    def one(number: int, state: str, value: float | None) -> TrialResult:
        told = {"number": number, "state": state, "value": value, "settings": {"optimizer.lr": "0.1"}, "epochs": 2}
        return TrialResult.model_validate(told)

    trials = (one(1, "failed", None), one(2, "complete", 0.7), one(3, "pruned", 0.9), one(4, "complete", 0.8))
    result = SweepResult(name="s", monitor="val_accuracy", trials=trials, best=trials[3], command=None)
    assert [trial.number for trial in ranked(result)] == [4, 2, 3, 1]
    assert [trial.number for trial in ranked(result.model_copy(update={"monitor": "val_loss"}))] == [2, 4, 3, 1]
    assert rows(result)[0] == {"trial": 4, "val_accuracy": "80.0 %", "epochs": 2, "optimizer.lr": "0.1", "": ""}
    assert result.sentence == "4 trials, 1 given up early; the best, trial 4: validation accuracy 80.0 %"
