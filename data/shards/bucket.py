"""Shards in a bucket: what is needed of it is fetched as a whole, and stays while there is room for it."""

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from data import whole
from data.errors import SourceError
from data.shards.order import WINDOW
from data.shards.place import Local, Place

LIMIT = "TRAINSERVE_SHARDS_GB"
LIMIT_GB = 20.0
AT_LEAST = 2 * WINDOW + 2  # shards that stay, whatever the limit: those that are read, and the next
CHUNK = 1 << 22  # bytes
PACKAGES = {"s3": "pip install 'trainserve[s3]'", "gs": "pip install 'trainserve[gs]'"}


def place_of(text: str, home: Path) -> Place:
    """A folder of this machine, or of a bucket: PROTOCOL://BUCKET/FOLDER."""
    if "://" not in text:
        return Local(Path(text).expanduser().resolve())
    url = text.rstrip("/")
    return Bucket(url, home / "datasets" / "shards" / hashlib.sha256(url.encode()).hexdigest()[:24])


@dataclass(frozen=True)
class Bucket:
    """Its rights are those of the library: `aws configure`, or the environment."""

    url: str
    folder: Path  # of this machine

    @property
    def called(self) -> str:
        return self.url

    def sizes(self) -> dict[str, int]:
        return {name: int(one["size"]) for name, one in self._there.items()}

    def stamp(self, name: str) -> str:
        told = self._there[name]
        return str(told.get("ETag") or told.get("etag") or told.get("LastModified") or told.get("created") or "")

    def content(self, name: str) -> bytes:
        return self.file(name).read_bytes()

    def file(self, name: str) -> Path:
        """Fetched if need be. Raises `SourceError`."""
        known = hashlib.sha256(f"{self.stamp(name)} {self._there[name]['size']}".encode()).hexdigest()[:16]
        target = self.folder / f"{known}-{name}"
        try:
            os.utime(target)
            return target
        except FileNotFoundError:
            pass
        with whole.locked(target):
            if not target.exists():
                self._fetch(name, target)
        _make_room(self.folder, limit_bytes())
        return target

    def soon(self, names: Sequence[str]) -> None:
        """Fetched in a thread, one after the other, while there is none at it."""
        if any(thread.is_alive() for thread in self._threads):
            return

        def fetch() -> None:
            with suppress(SourceError, OSError):  # who needs them hears of it
                for name in names:
                    self.file(name)

        self._threads[:] = [threading.Thread(target=fetch, name="shards", daemon=True)]
        self._threads[0].start()

    @cached_property
    def _threads(self) -> list[threading.Thread]:
        return []

    def _fetch(self, name: str, target: Path) -> None:
        try:
            with self._system.open(f"{self.url}/{name}", "rb") as there, whole.file(target) as part:
                while chunk := there.read(CHUNK):
                    part.write(chunk)
                if part.tell() != self._there[name]["size"]:
                    raise SourceError(f"{self.url}/{name} ended at byte {part.tell():,}; run it again")
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001 - every library of a bucket raises its own
            raise SourceError(f"{self.url}/{name} cannot be fetched ({_said(error)}); run it again") from None

    @cached_property
    def _system(self) -> Any:
        import fsspec  # late: of the extra `train`

        protocol = self.url.partition("://")[0]
        try:
            return fsspec.filesystem(protocol)
        except ImportError:
            remedy = PACKAGES.get(protocol, f"install what fsspec names for {protocol}")
            raise SourceError(f"{protocol}:// needs a package that is not installed; {remedy}") from None
        except ValueError:
            raise SourceError(f"{self.url} is of no protocol that fsspec knows; use s3:// or gs://") from None

    @cached_property
    def _there(self) -> dict[str, dict[str, Any]]:
        """Files by name, as they were when they were first asked for."""
        try:
            found = self._system.ls(self.url, detail=True, refresh=True)
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001 - likewise
            raise SourceError(f"{self.url} cannot be listed ({_said(error)}); check its name and your rights") from None
        return {PurePosixPath(one["name"]).name: one for one in found if one["type"] == "file"}


def limit_bytes() -> int:
    """Raises `SourceError` for a limit that is no number."""
    said = os.environ.get(LIMIT, "")
    try:
        return int(float(said or LIMIT_GB) * 1e9)
    except ValueError:
        raise SourceError(f"{LIMIT} is {said!r}; give a number of gigabytes, or leave it out") from None


def _make_room(folder: Path, limit: int) -> None:
    """What was not used longest goes first; who has it open reads on."""
    shards = [(file.stat(), file) for file in folder.glob("*.tar")]
    shards.sort(key=lambda one: one[0].st_mtime_ns)
    total = sum(state.st_size for state, _ in shards)
    for state, file in shards[:-AT_LEAST]:
        if total <= limit:
            return
        with suppress(FileNotFoundError):
            file.unlink()
        total -= state.st_size


def _said(error: Exception) -> str:
    """In one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
