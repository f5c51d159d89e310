"""What a run says when it has ended."""

import io

from rich.console import Console

from flows.cli.running import checked, serving
from flows.outcome import Outcome
from models.verdict import Check, Verdict


def ended(*, promoted: bool) -> Outcome:
    verdict = Verdict(promoted=promoted, relation="first", reason="", n=10, challenger_accuracy=0.5)
    return Outcome.model_construct(model="lamps@20261121-lamps-abcdef", verdict=verdict)


def test_how_to_serve_a_model_is_said_of_one_that_serve_would_find():
    assert serving(ended(promoted=True)) == {"serve it": "trainserve serve --model lamps"}
    assert serving(ended(promoted=False)) == {}


def test_the_checks_are_listed_one_in_a_line_as_they_are_written():
    checks = (
        Check(name="accuracy", value=0.9, limit=0.8, ok=True, said="90.0 % right"),
        Check(name="classes", value=1, limit=0, ok=False, said="a class fell: [red] from 8 to 2 of 9"),
        Check(name="size", value=1.2, limit=None, ok=None, said="1.20 MB"),
    )
    out = io.StringIO()
    Console(file=out, width=100).print(checked(checks))
    lines = [line.rstrip().split(maxsplit=2) for line in out.getvalue().splitlines()]
    assert lines[1] == ["✗", "classes", "a class fell: [red] from 8 to 2 of 9"]
    assert [mark for mark, *_ in lines] == ["✓", "✗", "·"]
