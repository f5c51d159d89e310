"""Which version of a model is in service: one small file per model name, whole or absent, with its history.

BentoML's store has no aliases and rewrites its `latest` file in place, so these are kept beside it.
"""

import json
import os
import pwd
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, Field, ValidationError

from data import whole
from data.spec import Frozen
from serving.refs import StoreError

What = Literal["promote", "rollback", "challenge", "canary", "shadow", "withdraw"]
Word = Literal["promoted", "refused", "none"]
DECISIONS: tuple[What, ...] = ("promote", "rollback")  # they choose the champion
# 1 had no `by`, `because`, `verdict` and `relation`. 2 may grow by fields that have a default until it is released, as
# that of bundles may.
FORMAT: Final = 2


class Change(Frozen):
    """One line of an alias's history."""

    when: str  # ISO 8601, UTC
    what: What
    version: str
    replaced: str | None
    reason: str
    by: str | None = None  # user@host; not in old files
    because: str | None = None  # what a person gave as the reason; None: nobody was asked for one
    verdict: Word | None = None  # the last one on this version then; None where not known, as in old files
    relation: str | None = None  # of `models.verdict`, if that verdict promoted it; None where not known


class Trial(Frozen):
    """A version that is tried beside the champion, on real requests."""

    version: str
    share: float = Field(gt=0, le=1)  # of the requests
    shadow: bool  # the champion answers all of them, and it only answers to be compared


class AliasFile(Frozen):
    """Versions of one model name."""

    format: Literal[1, 2] = FORMAT
    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    trial: Trial | None = None
    history: tuple[Change, ...] = ()  # oldest first

    @property
    def champions(self) -> tuple[str, ...]:
        """Every version that was ever the champion, each once, the last one chosen first."""
        chosen = (change.version for change in reversed(self.history) if change.what in DECISIONS)
        return tuple(dict.fromkeys(chosen))


class _Versioned(BaseModel):
    """The one field that every format, past or future, has."""

    format: int


def file_of(home: Path, name: str) -> Path:
    return home / "trainserve" / "aliases" / f"{name}.json"


def names(home: Path) -> tuple[str, ...]:
    folder = home / "trainserve" / "aliases"
    return tuple(sorted(path.stem for path in folder.glob("*.json"))) if folder.is_dir() else ()


def read(home: Path, name: str) -> AliasFile:
    """An empty one where nothing was ever promoted. Raises `StoreError` for one that is damaged, or too new."""
    try:
        content = file_of(home, name).read_bytes()
    except FileNotFoundError:
        return AliasFile()
    try:
        return AliasFile.model_validate_json(content)
    except ValidationError:
        what = "of a newer version; upgrade trainserve" if _format(content) > FORMAT else "damaged; restore it"
        raise StoreError(f"{file_of(home, name)} is {what}, or remove it and promote again") from None


def change(home: Path, name: str, edit: Callable[[AliasFile], AliasFile]) -> AliasFile:
    """Read, edit and replace under a lock: of two writers neither loses the other's change."""
    path = file_of(home, name)
    with whole.locked(path):
        edited = edit(read(home, name)).model_copy(update={"format": FORMAT})
        whole.write(path, json.dumps(edited.model_dump(mode="json"), indent=1).encode() + b"\n")
    return edited


def entry(
    what: What,
    version: str,
    replaced: str | None,
    reason: str,
    *,
    because: str | None = None,
    verdict: Word | None = None,
    relation: str | None = None,
) -> Change:
    """A line for the history, of this moment and this user."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return Change(
        when=now,
        what=what,
        version=version,
        replaced=replaced,
        reason=reason,
        by=whoever(),
        because=because,
        verdict=verdict,
        relation=relation,
    )


def whoever() -> str:
    """user@host of this process; the user's number where it has no name, as in many containers."""
    user = os.geteuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    return f"{name}@{socket.gethostname()}"


def _format(content: bytes) -> int:
    """0 where none can be read."""
    try:
        return _Versioned.model_validate_json(content).format
    except ValidationError:
        return 0
