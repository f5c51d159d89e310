"""Runs by the clock that wait: which of them happen, and which do not."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from flows import due
from flows.api import FlowRun, State

NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
SKIP = {"tags": ("trainserve", due.SKIP)}


def at(hour: float) -> datetime:
    return NOW.replace(hour=0, minute=0) + timedelta(hours=hour)


def run(name: str, hour: float, state: str = "Late", **more: Any) -> FlowRun:
    """By the clock, due at that hour; by default it waits."""
    kinds = {"Late": "SCHEDULED", "Scheduled": "SCHEDULED", "AwaitingRetry": "SCHEDULED"}
    facts: dict[str, Any] = {
        "id": uuid4(),
        "name": name,
        "deployment_id": UUID(int=1),
        "work_queue_name": "training",
        "expected_start_time": at(hour),
        "auto_scheduled": True,
        "tags": ("trainserve", "when-busy:wait"),
        "state": State(type=kinds.get(state, state.upper()), name=state, timestamp=at(hour)),
        **more,
    }
    return FlowRun(**facts)


def ran(name: str, begin: float, end: float | None, **more: Any) -> FlowRun:
    ended = None if end is None else at(end)
    state = "Running" if end is None else "Completed"
    return run(name, begin, state, start_time=at(begin), end_time=ended, run_count=1, **more)


def decided(waiting: list[FlowRun], others: list[FlowRun] | None = None) -> dict[str, str]:
    """name -> what becomes of it; those that stay are left out."""
    names = {one.id: one.name for one in waiting}
    return {names[one.run]: one.state_name for one in due.decide(waiting, others or [], NOW)}


def test_of_missed_runs_the_newest_stays():
    missed = [run("four", 4), run("three", 3), run("six", 6), run("five", 5), run("seven", 7, "Scheduled")]
    assert decided(missed) == {"three": "Collapsed", "four": "Collapsed", "five": "Collapsed"}
    (first, *_) = due.decide(missed, [], NOW)
    assert first.message == "run six, due 2026-11-22 06:00 UTC, stands for 3 missed ones"


def test_one_that_waits_alone_stays_and_so_does_one_of_each_deployment():
    other = {"deployment_id": UUID(int=2)}
    assert decided([run("three", 3)]) == {}
    assert decided([run("three", 3), run("else", 5, **other)]) == {}
    assert decided([run("three", 3), run("four", 4), run("else", 5, **other)]) == {"three": "Collapsed"}


def test_runs_by_hand_are_left_alone():
    by_hand = {"auto_scheduled": False}
    assert decided([run("hand", 3, **by_hand), run("clock", 4), run("hand too", 5, **by_hand)]) == {}
    assert decided([run("ad hoc", 3, deployment_id=None), run("clock", 4)]) == {}


@pytest.mark.parametrize("state", ["AwaitingRetry", "Pending", "Running", "Paused"])
def test_what_has_begun_once_is_not_collapsed(state: str):
    assert decided([run("begun", 3, state), run("four", 4)]) == {}


def test_skip_leaves_out_what_came_due_while_another_of_its_queue_was_under_way():
    waiting = [run("three", 3, **SKIP), run("four", 4, **SKIP), run("six", 6, **SKIP)]
    others = [ran("long", 2, 5)]
    assert decided(waiting, others) == {"three": "Skipped", "four": "Skipped"}
    assert decided(waiting, [ran("long", 2, None)]) == dict.fromkeys(("three", "four", "six"), "Skipped")
    message = due.decide(waiting, others, NOW)[0].message
    assert message == "run long was under way at 2026-11-22 03:00 UTC, and the schedule says skip"


def test_skip_is_of_no_account_where_nothing_ran():
    waiting = [run("three", 3, **SKIP), run("four", 4, **SKIP)]
    assert decided(waiting) == {"three": "Collapsed"}  # an outage
    assert decided(waiting, [ran("earlier", 1, 2)]) == {"three": "Collapsed"}
    assert decided(waiting, [ran("upkeep", 2, 5, work_queue_name="light")]) == {"three": "Collapsed"}
    assert decided([run("three", 3)], [ran("long", 2, None)]) == {}  # wait


def settled(mine: FlowRun, siblings: list[FlowRun], others: list[FlowRun] | None = None) -> str | None:
    instead = due.settled(mine, siblings, others or [], NOW)
    return instead.state_name if instead else None


def begins(name: str, hour: float, **more: Any) -> FlowRun:
    return run(name, hour, "Running", **{"run_count": 1, "start_time": NOW, **more})


def test_a_run_that_begins_gives_way_to_a_later_one_that_has_begun_and_to_none_else():
    mine = begins("four", 4)
    assert settled(mine, [mine, run("three", 3), run("five", 5), run("six", 6, "Pending")]) is None
    assert settled(mine, [ran("five", 5, None)]) == "Collapsed"
    assert settled(mine, [ran("five", 5, 5.5)]) == "Collapsed"
    assert settled(mine, [ran("three", 3, 3.5)]) is None
    assert settled(mine, [run("five", 5, "Failed"), run("six", 6, "Crashed")]) is None
    assert settled(mine, [ran("five", 5, None, deployment_id=UUID(int=2))]) is None


def test_a_run_that_begins_stands_for_all_that_wait():
    mine = begins("four", 4)
    waiting = [mine, run("three", 3), run("five", 5), run("again", 4, "AwaitingRetry"), run("seven", 7, "Scheduled")]
    gone = {one.run for one in due.collapsed_into(mine, waiting, NOW)}
    assert gone == {one.id for one in waiting if one.name in ("three", "five")}


def test_one_that_goes_on_after_a_crash_or_was_asked_for_by_hand_is_not_settled_again():
    later = [ran("five", 5, None)]
    assert settled(begins("again", 4, run_count=2), later) is None
    assert settled(begins("hand", 4, auto_scheduled=False), later) is None


def test_a_run_that_begins_late_because_another_held_the_place_is_skipped_where_the_schedule_says_so():
    others = [ran("long", 2, 5)]
    assert settled(begins("three", 3, **SKIP), [], others) == "Skipped"
    assert settled(begins("three", 3), [], others) is None
    assert settled(begins("five", 5.5, **SKIP), [], others) is None
    mine = begins("six", 6, **SKIP)
    assert settled(mine, [mine], [mine]) is None  # it is not in its own way


def test_one_that_was_left_out_just_when_a_worker_took_it_finds_out_and_one_that_is_wanted_again_happens():
    def states(*names: str) -> list[State]:
        kinds = {"Collapsed": "CANCELLED", "Skipped": "CANCELLED", "Late": "SCHEDULED", "AwaitingRetry": "SCHEDULED"}
        return [State(type=kinds.get(name, name), name=name, timestamp=at(hour)) for hour, name in enumerate(names)]

    taken = due.left_out(states("Late", "PENDING", "Collapsed", "RUNNING"))
    assert taken is not None
    assert taken.name == "Collapsed"
    assert due.left_out(states("Late", "PENDING", "RUNNING")) is None
    assert due.left_out(states("Late", "Skipped", "AwaitingRetry", "PENDING", "RUNNING")) is None
