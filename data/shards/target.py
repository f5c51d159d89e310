"""What shards are written to: a folder of this machine, or, in `upload`, one of a bucket."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data import whole

HEAD = 4096  # bytes, which the first line of an index has not


class Target(Protocol):
    """Named files, each whole or absent. What is done with them raises `OSError`, or `InputError` with a sentence."""

    @property
    def called(self) -> str:
        """As sentences have it."""

    def alone(self) -> AbstractContextManager[object]:
        """Within, no other process of this machine writes there."""

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file that is there; nothing where there is no such folder."""

    def begin_of(self, name: str) -> bytes:
        """Of a file that is there, all of it up to `HEAD` bytes."""

    def content(self, name: str) -> bytes:
        """Of a small file that is there."""

    def draft(self, name: str) -> Path:
        """Where a large file is to be written, to be `kept` then."""

    def keep(self, name: str) -> None:
        """What was written as the draft of this name is there."""

    def put(self, name: str, content: bytes) -> None:
        """A small file, in place of what was there."""

    def remove(self, name: str) -> None:
        """If it is there."""


@dataclass(frozen=True)
class Folder:
    """Of this machine."""

    folder: Path

    @property
    def called(self) -> str:
        return str(self.folder)

    def alone(self) -> AbstractContextManager[object]:
        return whole.locked(self.folder)

    def sizes(self) -> Mapping[str, int]:
        if not self.folder.exists():
            return {}
        return {path.name: path.stat().st_size for path in self.folder.iterdir() if not path.name.startswith(".")}

    def begin_of(self, name: str) -> bytes:
        with (self.folder / name).open("rb") as file:
            return file.read(HEAD)

    def content(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def draft(self, name: str) -> Path:
        return self.folder / name

    def keep(self, name: str) -> None:
        """It is there."""

    def put(self, name: str, content: bytes) -> None:
        whole.write(self.folder / name, content)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
