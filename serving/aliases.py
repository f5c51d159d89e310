"""Which version of a model is in service: one small file per model name, whole or absent, with its history.

BentoML's store has no aliases and rewrites its `latest` file in place, so these are kept beside it.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from data import whole
from data.spec import Frozen
from serving.refs import StoreError

What = Literal["promote", "rollback", "challenge", "canary", "shadow", "withdraw"]
DECISIONS: tuple[What, ...] = ("promote", "rollback")  # they choose the champion


class Change(Frozen):
    """One line of an alias's history."""

    when: str  # ISO 8601, UTC
    what: What
    version: str
    replaced: str | None
    reason: str


class Trial(Frozen):
    """A version that is tried beside the champion, on real requests."""

    version: str
    share: float = Field(gt=0, le=1)  # of the requests
    shadow: bool  # the champion answers all of them, and it only answers to be compared


class AliasFile(Frozen):
    """Versions of one model name."""

    format: Literal[1] = 1
    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    trial: Trial | None = None
    history: tuple[Change, ...] = ()  # oldest first


def file_of(home: Path, name: str) -> Path:
    return home / "trainserve" / "aliases" / f"{name}.json"


def names(home: Path) -> tuple[str, ...]:
    folder = home / "trainserve" / "aliases"
    return tuple(sorted(path.stem for path in folder.glob("*.json"))) if folder.is_dir() else ()


def read(home: Path, name: str) -> AliasFile:
    """An empty one where nothing was ever promoted. Raises `StoreError` for a file that someone damaged."""
    try:
        content = file_of(home, name).read_bytes()
    except FileNotFoundError:
        return AliasFile()
    try:
        return AliasFile.model_validate_json(content)
    except ValidationError:
        raise StoreError(f"{file_of(home, name)} is damaged; restore it, or remove it and promote again") from None


def change(home: Path, name: str, edit: Callable[[AliasFile], AliasFile]) -> AliasFile:
    """Read, edit and replace under a lock: of two writers neither loses the other's change."""
    path = file_of(home, name)
    with whole.locked(path):
        edited = edit(read(home, name))
        whole.write(path, json.dumps(edited.model_dump(mode="json"), indent=1).encode() + b"\n")
    return edited


def entry(what: What, version: str, replaced: str | None, reason: str) -> Change:
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return Change(when=now, what=what, version=version, replaced=replaced, reason=reason)
