"""A search for wrong labels is an extra: where it fails, that is said, and the run goes on."""

import io
from pathlib import Path

from prefect.logging import disable_run_logger
from rich.console import Console

from flows.console import shown
from flows.suspects import look_at_labels
from models.evaluation.labels import Suspects, of_folds
from models.run import RunFolder
from tests.models.conftest import toy_dataset


def test_a_search_that_fails_is_told_and_ends_nothing(tmp_path: Path):
    def broken(*_: object) -> Suspects:
        raise ZeroDivisionError("in a\nlibrary")

    said = io.StringIO()
    with disable_run_logger(), shown(Console(file=said, width=200)):
        assert look_at_labels(RunFolder(tmp_path), toy_dataset(), broken) is None
        assert look_at_labels(RunFolder(tmp_path), toy_dataset(), of_folds) is None  # of folds that left no answers
    assert "labels were not looked at: ZeroDivisionError: in a library\n" in said.getvalue()
    assert said.getvalue().count("labels were not looked at: ") == 2
    assert list(tmp_path.iterdir()) == []
