"""The stages of the chain, and what rests on which. Nothing is imported here that takes time."""

from collections.abc import Iterable
from typing import Literal

from data.errors import InputError

Stage = Literal["prepare", "cross-validate", "train", "evaluate", "export", "release"]
Refresh = Literal["prepare", "cross-validate", "train", "evaluate", "export", "release", "all"]

RESTS_ON: dict[Stage, tuple[Stage, ...]] = {
    "prepare": (),
    "cross-validate": ("prepare",),
    "train": ("prepare",),
    "evaluate": ("cross-validate", "train"),
    "export": ("evaluate",),
    "release": ("export",),
}
"""In the order in which they are carried out."""


def require_either(resume: str | None, refresh: Iterable[str]) -> None:
    """Raises `InputError` where both are asked for."""
    if resume is not None and list(refresh):
        raise InputError(f"--refresh makes stages anew, and --resume goes on with run {resume}; leave out one of them")


def made_anew(refresh: Iterable[Refresh]) -> frozenset[Stage]:
    """The stages asked for, and all that rests on them."""
    asked = set(refresh)
    anew: set[Stage] = set()
    for stage, before in RESTS_ON.items():
        if asked & {stage, "all"} or anew.intersection(before):
            anew.add(stage)
    return frozenset(anew)
