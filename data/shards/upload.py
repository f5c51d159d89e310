"""Shards written to a bucket: each on this machine first, and only until it is there."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from data import whole
from data.address import secret_in, shown
from data.errors import DownloadError, SourceError
from data.shards.target import HEAD, Folder, Target
from data.sources import bucket
from data.sources.bucket import Bucket
from data.sources.kinds import parse_source

WRITTEN = {
    "could not be fetched": "could not be written",
    "may not be read": "may not be written to",
    "cannot be read": "cannot be written to",
    "run again, which goes on from there": "give the command again, which goes on where it ended",
}

Result = TypeVar("Result")


def target_of(text: str, home: Path) -> Target:
    """A folder of this machine, or of a bucket: s3://BUCKET/FOLDER. Raises `SourceError` for a bucket that is not
    there, or cannot be asked what is."""
    if "://" not in text:
        return Folder(Path(text).expanduser().absolute())
    if secret := secret_in(text):
        raise SourceError(f"{shown(text)} was given with {secret}; set it in the environment instead")
    if text.partition("://")[0] not in bucket.SCHEMES:
        ways = " or ".join(f"{one}://BUCKET/FOLDER" for one in bucket.WAYS)
        raise SourceError(f"shards cannot be written to {shown(text)}; name a folder, or {ways}")
    parse_source(text)  # as it will be asked for
    url = text.rstrip("/")
    key = hashlib.sha256(url.encode()).hexdigest()[:24]
    target = Upload(url, *bucket.opened(url), home / "datasets" / "shards" / f"{key}-upload")
    target.sizes()
    return target


@dataclass(frozen=True)
class Upload:
    """A folder of a bucket. An object is there as a whole or not at all, which is what buckets promise."""

    url: str
    store: Bucket
    folder: str  # its key
    part: Path  # of this machine; what lies there is of nobody once nobody writes
    found: dict[str, int] = field(default_factory=dict)  # bytes of what is there, as far as it is known

    @property
    def called(self) -> str:
        return shown(self.url)

    @contextmanager
    def alone(self) -> Iterator[None]:
        with whole.locked(self.part):
            shutil.rmtree(self.part, ignore_errors=True)  # what a kill left
            try:
                yield
            finally:
                shutil.rmtree(self.part, ignore_errors=True)

    def sizes(self) -> Mapping[str, int]:
        with self._of_a_bucket(), _of_writing():
            found = self.store.below_there(self.folder)
        named = {key.removeprefix(self.folder).lstrip("/"): state.size for key, state in found.items()}
        self.found.clear()
        self.found.update({name: size for name, size in named.items() if name and not name.startswith(".")})
        return dict(self.found)

    def begin_of(self, name: str) -> bytes:
        with _absent_is_an_error(name):
            return self.store.read(self._key(name), 0, min(HEAD, self.found[name]))

    def content(self, name: str) -> bytes:
        with _absent_is_an_error(name):
            return self.store.whole(self._key(name), self.found[name])

    def draft(self, name: str) -> Path:
        return self.part / name

    def keep(self, name: str) -> None:
        """Raises `SourceError`."""
        file, key = self.draft(name), self._key(name)
        size = file.stat().st_size
        self._tried(key, lambda: self.store.fs.put_file(str(file), key))
        if self._tried(key, lambda: self.store.state(key)).size != size:
            raise SourceError(f"{self.called}/{name} has not all {size:,} bytes; give the command again")
        self.found[name] = size
        file.unlink()

    def put(self, name: str, content: bytes) -> None:
        """Raises `SourceError`."""
        key = self._key(name)
        self._tried(key, lambda: self.store.fs.pipe_file(key, content))
        self.found[name] = len(content)

    def remove(self, name: str) -> None:
        key = self._key(name)
        if self.found.pop(name, None) is not None:
            with suppress(KeyError):
                self._asked(key, lambda: self.store.fs.rm_file(key))

    def _key(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _tried(self, key: str, act: Callable[[], Result]) -> Result:
        with self._of_a_bucket():
            return self._asked(key, act)

    @contextmanager
    def _of_a_bucket(self) -> Iterator[None]:
        try:
            yield
        except KeyError:
            raise SourceError(f"there is no bucket for {self.called}; make it first") from None

    def _asked(self, key: str, act: Callable[[], Result]) -> Result:
        """Again after what may pass. Raises `KeyError` where there is no such thing."""
        with _of_writing():
            return bucket.patiently(act, self.store.address(key), self.store.scheme, self.store.patience)


@contextmanager
def _of_writing() -> Iterator[None]:
    """What is said of reading, as it is said of writing."""
    try:
        yield
    except DownloadError as error:
        said = re.sub(r", or for a public bucket \S+", "", str(error))
        for of_reading, of_writing in WRITTEN.items():
            said = said.replace(of_reading, of_writing)
        raise SourceError(said) from None


@contextmanager
def _absent_is_an_error(name: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, bucket.Changed):
        raise FileNotFoundError(name) from None
