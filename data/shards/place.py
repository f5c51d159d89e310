"""Where shards lie: a folder of this machine, or of a bucket."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data.errors import SourceError


class Place(Protocol):
    """Named files, nothing below them."""

    @property
    def called(self) -> str:
        """As sentences have it."""

    @property
    def folder(self) -> Path:
        """Where what was fetched of it lies on this machine."""

    def sizes(self) -> dict[str, int]:
        """Bytes of each file. Raises `SourceError` where the place cannot be read."""

    def stamp(self, name: str) -> str:
        """Another one when the file has changed."""

    def content(self, name: str) -> bytes:
        """Of a small file. Raises `OSError`."""

    def file(self, name: str) -> Path:
        """On this machine, for a while at least. Raises `OSError` or `SourceError`."""

    def in_use(self) -> AbstractContextManager[None]:
        """Files that are asked for within stay until its end."""

    def soon(self, names: Sequence[str]) -> None:
        """These will be asked for."""


@dataclass(frozen=True)
class Local:
    """A folder of this machine."""

    folder: Path

    @property
    def called(self) -> str:
        return str(self.folder)

    def sizes(self) -> dict[str, int]:
        try:
            with os.scandir(self.folder) as there:
                return {one.name: one.stat().st_size for one in there if one.is_file()}
        except OSError as error:
            raise SourceError(f"{self.folder} cannot be read: {error.strerror}; check its name and rights") from None

    def stamp(self, name: str) -> str:
        """Also another one where the copy that took its place has its time of change."""
        state = (self.folder / name).stat()
        return f"{state.st_mtime_ns} {state.st_ctime_ns}"

    def content(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def file(self, name: str) -> Path:
        return self.folder / name

    def in_use(self) -> AbstractContextManager[None]:
        return nullcontext()

    def soon(self, names: Sequence[str]) -> None:
        """They are there."""
