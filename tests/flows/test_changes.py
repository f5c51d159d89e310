"""Changes laid over a deployment's experiment: what a request, the form and the command line write alike."""

import pytest

from data.errors import InputError
from flows.settings.overrides import changed
from models.config import Experiment, TrainConfig

BASE = Experiment(name="lamps", train=TrainConfig(epochs=7, seed=3))


def test_nothing_changed_is_the_same_experiment():
    assert changed(BASE, []) is BASE


@pytest.mark.parametrize("change", ["train.epochs=3", "--train.epochs=3"])
def test_one_setting_is_changed_and_the_others_stay(change: str):
    new = changed(BASE, [change])
    assert (new.train.epochs, new.train.seed, new.name) == (3, 3, "lamps")


def test_another_kind_begins_with_its_own_defaults():
    assert changed(BASE, ["model.kind=vit", "model.depth=2"]).model.kind == "vit"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["train.epochs=0"], "train.epochs is 0"),
        (["train.epoch=3"], "did you mean --train.epochs"),
        (["train.epochs"], "has no value"),
        (["train.epochs=3", "train.epochs=4"], "given twice"),
    ],
)
def test_a_wrong_change_is_refused_as_on_the_command_line(changes: list[str], said: str):
    with pytest.raises(InputError, match=said):
        changed(BASE, changes)
