"""A source -> checked pictures, split: the chain of this folder in one function."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.images import Images
from data.spec import DatasetSpec
from data.split import Split
from data.validate import ValidationReport

Progress = Callable[[str, int, int], None]
"""(what, done, total) -> None: called now and then; the default ignores it."""


@dataclass(frozen=True)
class Dataset:
    """All that training needs to know of the pictures."""

    images: Images
    split: Split
    report: ValidationReport


def prepare(spec: DatasetSpec, home: Path, *, progress: Progress | None = None) -> Dataset:
    """Fetch, list, decode, split and check. Raises `InputError` with one sentence when the pictures are refused."""
    raise NotImplementedError
