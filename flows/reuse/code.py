"""Which files of this project decide what a stage makes. Whoever changes one of them is given no result of before."""

import hashlib
from functools import cache
from pathlib import Path

from flows.reuse.stages import Stage

ROOT = Path(__file__).parents[2]

LEARNING = (
    "data/**/*.py",
    "models/*.py",
    "models/zoo/**/*.py",
    "models/training/**/*.py",
    "models/evaluation/config.py",
    "models/evaluation/inference.py",
    "models/evaluation/metrics.py",
)
DECIDE: dict[Stage, tuple[str, ...]] = {
    "cross-validate": LEARNING,
    "train": LEARNING,
    "evaluate": ("models/evaluation/**/*.py",),
    "export": ("models/bundle/**/*.py",),
}
"""Beside those of the stages that it rests on. Of `prepare` the pixels say it."""


@cache
def digests(root: Path = ROOT) -> dict[Stage, str]:
    """sha256 (hex) for each."""
    return {stage: _digest(files(stage, root), root) for stage in DECIDE}


def files(stage: Stage, root: Path = ROOT) -> list[Path]:
    return sorted({file for pattern in DECIDE[stage] for file in root.glob(pattern)})


def _digest(files: list[Path], root: Path) -> str:
    told = "".join(f"{file.relative_to(root)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in files)
    return hashlib.sha256(told.encode()).hexdigest()
