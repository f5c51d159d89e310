import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.early_stop import EarlyStop


def after(*values: float, patience: int = 2) -> EarlyStop:
    stop = EarlyStop(patience=patience)
    for value in values:
        stop = stop.seen(value)
    return stop


def test_patience_counts_epochs_since_the_best():
    stop = after(1.0, 0.5, 0.6, 0.7)
    assert stop.spent
    assert stop.best_epoch == 1


def test_an_improvement_resets_the_count():
    stop = after(1.0, 0.5, 0.6, 0.4, 0.5)
    assert not stop.spent
    assert stop.best_epoch == 3


def test_the_first_epoch_is_an_improvement_whatever_its_value():
    assert after(math.inf).improved


def test_an_equal_value_is_no_improvement():
    assert not after(0.5, 0.5).improved


def test_a_later_figure_breaks_a_tie():
    stop = EarlyStop(patience=2).seen(0.1, 0.9).seen(0.1, 0.8).seen(0.2, 0.1)
    assert stop.best_epoch == 1


def test_nan_raises():
    with pytest.raises(ValueError, match="NaN"):
        after(1.0, math.nan)


def test_before_any_epoch_nothing_is_spent_or_improved():
    assert not after().spent
    assert not after().improved


@pytest.mark.slow
@given(st.lists(st.floats(allow_nan=False), min_size=1), st.integers(1, 5))
def test_the_best_epoch_is_the_first_minimum_of_what_was_seen(values: list[float], patience: int):
    stop = after(*values, patience=patience)
    assert stop.best_epoch == values.index(min(values))
    assert stop.spent == (len(values) - 1 - values.index(min(values)) >= patience)
