"""How a share is shown: one function, so that a report, the terminal and the Prefect UI say the same."""

import ast
from pathlib import Path

from models.evaluation.percent import percent

ROOT = Path(__file__).parents[2]


def test_a_share_has_one_digit_unless_another_number_is_asked_for():
    assert (percent(0.93125), percent(1.0), percent(0.93125, 3)) == ("93.1 %", "100.0 %", "93.125 %")


def test_there_is_no_second_function_for_that():
    found = [
        file.relative_to(ROOT).as_posix()
        for folder in ("data", "models", "serving", "flows")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "percent"
    ]
    assert found == ["models/evaluation/percent.py"]
