"""Shards in a bucket: what is needed of it is fetched as a whole, and stays while there is room for it."""

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data import whole
from data.errors import SourceError
from data.shards import room
from data.shards.order import WINDOW
from data.shards.place import Local, Place
from data.sources import bucket, objects
from data.sources.bucket import State

LIMIT = "TRAINSERVE_SHARDS_GB"
LIMIT_GB = 20.0
AT_LEAST = 2 * WINDOW + 2  # shards that stay, whatever the limit: those that are read, and the next


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
        return {name: state.size for name, state in self._there.items()}

    def stamp(self, name: str) -> str:
        return self._there[name].version

    def content(self, name: str) -> bytes:
        return self.file(name).read_bytes()

    def file(self, name: str) -> Path:
        """Fetched if need be. Raises `SourceError`."""
        state = self._there[name]
        known = hashlib.sha256(f"{state.version} {state.size}".encode()).hexdigest()[:16]
        target = self.folder / f"{known}-{name}"
        limit, fetched = limit_bytes(), False
        while not room.touched(target):
            with whole.locked(target):
                if not target.exists():
                    self._fetch(name, target, state)
            fetched = True
        if fetched:
            room.make(self.folder, limit, at_least=AT_LEAST)
        return target

    def in_use(self) -> AbstractContextManager[None]:
        return room.in_use(self.folder)

    def soon(self, names: Sequence[str]) -> None:
        """Fetched in a thread, one after the other, while there is none at it."""
        if not names or any(thread.is_alive() for thread in self._threads):
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

    def _fetch(self, name: str, target: Path, state: State) -> None:
        store, folder = self._store
        try:
            found = objects.bring(store, f"{folder}/{name}", target, state, keep_origin=False)
        except KeyError:
            raise SourceError(f"{self.url}/{name} is gone since it was listed; run it again") from None
        if found != state:
            target.unlink()
            raise SourceError(f"{self.url}/{name} has changed since it was listed; run it again")

    @cached_property
    def _store(self) -> tuple[bucket.Bucket, str]:
        """And the folder's key in it."""
        scheme = self.url.partition("://")[0]
        if scheme not in bucket.SCHEMES:
            raise SourceError(f"{self.url} is no bucket; use {' or '.join(f'{one}://' for one in bucket.WAYS)}")
        return bucket.opened(self.url)

    @cached_property
    def _there(self) -> dict[str, State]:
        """Files by name, as they were when they were first asked for."""
        store, folder = self._store
        found = {key.removeprefix(f"{folder}/"): state for key, state in store.below(folder).items()}
        return {name: state for name, state in found.items() if "/" not in name}


def limit_bytes() -> int:
    """Raises `SourceError` for a limit that is no number."""
    said = os.environ.get(LIMIT, "")
    try:
        return int(float(said or LIMIT_GB) * 1e9)
    except ValueError:
        raise SourceError(f"{LIMIT} is {said!r}; give a number of gigabytes, or leave it out") from None
