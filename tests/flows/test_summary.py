"""What a run says when it has ended."""

from flows.cli.running import serving
from flows.outcome import Outcome
from models.records import Verdict


def ended(*, promoted: bool) -> Outcome:
    verdict = Verdict(promoted=promoted, relation="first", reason="", n=10, challenger_accuracy=0.5)
    return Outcome.model_construct(model="lamps@20261121-lamps-abcdef", verdict=verdict)


def test_how_to_serve_a_model_is_said_of_one_that_serve_would_find():
    assert serving(ended(promoted=True)) == {"serve it": "trainserve serve --model lamps"}
    assert serving(ended(promoted=False)) == {}
