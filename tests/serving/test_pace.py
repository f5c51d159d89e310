"""The size of a batch follows from how long batches take."""

from collections.abc import Callable

import pytest

from serving.pace import PROBE_EVERY, Pace

Seconds = Callable[[int], float]


def one_by_one(pictures: int) -> float:
    """A large network on a processor."""
    return 0.03 * pictures


def together(pictures: int) -> float:
    """A GPU: the batch costs, its pictures hardly."""
    return 0.005 + 0.0001 * pictures


def saturated(pace: Pace, seconds: Seconds, *, batches: int) -> list[int]:
    """Sizes of the batches while everybody waits."""
    sizes = []
    for _ in range(batches):
        sizes.append(pace.limit(1000))
        pace.note(sizes[-1], seconds(sizes[-1]))
    return sizes


def known(most: int, seconds: Seconds) -> Pace:
    pace = Pace(most)
    for size in pace.sizes:
        pace.note(size, seconds(size))
    return pace


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (32, (1, 2, 4, 8, 16, 32))]
)
def test_sizes_are_powers_of_two_and_the_most_there_may_be(most, sizes):
    assert Pace(most).sizes == sizes


def test_while_nothing_is_known_all_that_may_be_are_taken():
    assert Pace(32).limit(1000) == 32


def test_what_gains_nothing_together_is_answered_one_by_one():
    assert known(32, one_by_one).limit(1000) == 1


def test_what_costs_little_more_together_is_answered_together():
    assert known(32, together).limit(1000) == 32


def test_the_smallest_of_those_near_the_best_is_taken():
    pace = Pace(32)
    for size, each in ((1, 3.0), (2, 2.0), (4, 1.05), (8, 1.0), (16, 1.02), (32, 2.0)):
        pace.note(size, each * size)
    assert pace.best == 4


def test_sizes_between_are_counted_with_the_next_smaller_one():
    pace = known(8, one_by_one)
    for _ in range(20):
        pace.note(7, 0.007)
    assert pace.best == 4


def test_a_batch_that_was_held_up_changes_nothing():
    pace = known(32, together)
    saturated(pace, together, batches=20)
    pace.note(32, 10.0)
    assert pace.best == 32


@pytest.mark.parametrize(("before", "after", "best"), [(one_by_one, together, 32), (together, one_by_one, 1)])
def test_a_model_whose_times_change_is_followed(before, after, best):
    pace = known(32, before)
    saturated(pace, after, batches=200 * PROBE_EVERY)
    assert pace.best == best


def test_other_sizes_are_tried_rarely_and_only_up_to_some_times_the_best():
    sizes = saturated(known(32, one_by_one), one_by_one, batches=10 * PROBE_EVERY)
    assert sizes.count(1) >= 9 * PROBE_EVERY
    assert set(sizes) == {1, 2, 4}


def test_nothing_is_tried_while_nobody_waits():
    pace = known(32, together)
    assert {pace.limit(1) for _ in range(10 * PROBE_EVERY)} == {32}
