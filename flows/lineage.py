"""Where a model comes from, as its card has it: its code, and its pictures beside the champion's. No Prefect here."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from data.history.diff import diff
from data.history.records import Record
from data.spec import DatasetSpec
from flows.recorded import kept, of_model
from serving import store
from serving.refs import ModelRef

ROOT = Path(__file__).parents[1]
DECIDE = ("data", "flows", "models", "serving", "pyproject.toml", "requirements.lock")  # what a training is made by
GIT_S = 10.0


class Code(NamedTuple):
    commit: str | None
    dirty: bool | None  # what decides a training differs from the commit


def code(root: Path = ROOT) -> Code:
    """Of the checkout that this code runs from. Neither is known where it is in none: an installed package may lie in a
    checkout of something else."""
    if _git(root, "ls-files", "--error-unmatch", "--", "flows/lineage.py") is None:
        return Code(commit=None, dirty=None)
    changes = _git(root, "status", "--porcelain", "--", *DECIDE)
    return Code(commit=_git(root, "rev-parse", "HEAD"), dirty=None if changes is None else bool(changes))


def _git(root: Path, *words: str) -> str | None:
    """What it says; None where it fails, or is not there. A hook's variables would lead it to another checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", *words]
    try:
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=GIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def since_champion(name: str, fingerprint: str, spec: DatasetSpec, home: Path) -> str | None:
    """What changed in the pictures since those of the model in service, in words; None where there is no such model, or
    nothing is known of its pictures."""
    try:
        champion = store.aliases(name).champion
        return since(champion, fingerprint, kept("this run", fingerprint, spec.model_dump(), home), home)
    except (ValueError, OSError):  # a note for readers stops no run; settings of another version are no values of ours
        return None


def since(earlier: ModelRef | None, fingerprint: str, pictures: Record, home: Path) -> str | None:
    """Raises `InputError` where the earlier model, or the record of its pictures, is gone."""
    if earlier is None:
        return None
    if store.card(earlier).lineage.fingerprint == fingerprint:
        return f"{earlier}: the same pictures"
    found = diff(of_model(str(earlier), home), pictures)
    classes = [
        f"{word} {', '.join(labels[:5])}{' ...' if len(labels) > 5 else ''}"
        for word, labels in (("classes new:", found.classes_added), ("classes gone:", found.classes_removed))
        if labels
    ]
    return "; ".join([f"{earlier}: {found.sentence}", *classes])
