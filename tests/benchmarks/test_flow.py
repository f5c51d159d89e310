"""The tables of what orchestration costs, and how a run of ten minutes is reckoned from two lengths."""

import pytest

from benchmarks import render_flow
from benchmarks.overhead import TEN_MINUTES, in_ten_minutes
from benchmarks.render import table
from benchmarks.spread import spread

ON = {
    "command": "python -m benchmarks.overhead",
    "threads": 1,
    "machine": {"processor": "a processor", "cores": 2, "python": "3.11", "torch": "2.11", "commit": "abc"},
}


def length(epochs: int, *, chain_s: float, added_s: float, added_cpu_s: float) -> dict[str, object]:
    plain = {"import_s": spread([4.0]), "chain_s": spread([chain_s]), "chain_cpu_s": spread([chain_s])}
    added = {"import_s": 1.0, "chain_s": added_s, "chain_cpu_s": added_cpu_s}
    beside = {"trained_s": spread([chain_s - 8]), "beside_cpu_s": spread([(chain_s - 8) / 200])}
    return {
        "epochs": epochs,
        "plain": plain,
        "flow": plain | beside,
        **{f"added_{key}": spread([value]) for key, value in added.items()},
    }


def test_what_is_paid_once_and_what_is_paid_for_each_second_are_told_apart():
    short = length(3, chain_s=10, added_s=2, added_cpu_s=1)
    long = length(60, chain_s=110, added_s=2.5, added_cpu_s=1.5)
    reckoned = in_ten_minutes(short, long)
    assert reckoned["once_s"] == 2
    assert reckoned["per_second_cpu_s"] == pytest.approx(0.005)
    assert reckoned["share_of_ten_minutes"] == pytest.approx(2 / TEN_MINUTES + 0.005)


def test_what_was_not_measured_has_no_table():
    assert render_flow.sections(lambda _: [], table) == ["", ""]


def test_the_tables_have_the_figures_with_their_goals():
    lengths = [
        length(3, chain_s=10, added_s=2, added_cpu_s=1),
        length(60, chain_s=110, added_s=2.5, added_cpu_s=1.5),
    ]
    goals = {"once_s": 3.0, "share_of_ten_minutes": 0.01}
    figures = {**ON, "repeats": 1, "goals": goals, "lengths": lengths, "ten_minutes": in_ten_minutes(*lengths)}
    page = render_flow.overhead(lambda _: [figures], table)
    assert "Once: 2.00 s (goal under 3)" in page
    assert "0.83% of ten minutes (goal under 1%)" in page
    many = {
        "runs": 200,
        "trained_every": 20,
        "states": {"Completed": 200},
        "attempts": {"1": 200},
        "run_folders": 10,
        "asked_again": 2,
        "processes_left": 0,
        "seconds_per_run": 4.2,
        "database_bytes_per_run": 30_000,
    }
    page = render_flow.nights(lambda _: [{**ON, "first_step_s": spread([7.0]), "back_to_back": many}], table)
    assert "| how they ended | Completed: 200 |" in page
    assert "7.00" in page
