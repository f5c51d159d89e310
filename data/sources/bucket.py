"""Object stores by fsspec, which s3fs and gcsfs implement: what lies there, and its bytes.

Who may read is told by the environment of those libraries alone: settings are kept with every run.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from data.address import shown
from data.download import Patience
from data.errors import DownloadError, SourceError, Unreachable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SCHEMES = ("s3", "gs", "memory")  # the last one is of this process, for trying things out
WORKERS = 16  # objects fetched at once
MOST_BELOW = 2_000_000  # objects in a folder, of which half may be what nobody asks for
STOPS = {"s3": "max_items"}  # how a library is told to end a listing early
WAYS = {
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or for a public bucket FSSPEC_S3_ANON=true",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or for a public bucket FSSPEC_GS_TOKEN=anon",
}
OPTIONS: Mapping[str, dict[str, Any]] = {
    "s3": {  # `patiently` tries again: three layers that do would try a hundred times
        "config_kwargs": {
            "connect_timeout": 10,
            "read_timeout": 30,
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": WORKERS,
        }
    }
}
CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "RefreshError", "PermissionError"}
UNREACHABLE = {"EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError", "ConnectionRefusedError"}
WRONG = {"ParamValidationError", "ValueError", "NotADirectoryError", "IsADirectoryError"}

Result = TypeVar("Result")


class Changed(Exception):  # noqa: N818 - internal
    """What was asked for is another version now."""


@dataclass(frozen=True)
class State:
    """Of one object; of another version, the text is another one."""

    size: int
    version: str


@dataclass(frozen=True)
class Bucket:
    """What is asked of a store. `KeyError` where there is no such object; `SourceError` where it cannot be had."""

    fs: "AbstractFileSystem"
    scheme: str
    patience: Patience = field(default_factory=Patience)

    def state(self, key: str) -> State:
        return state_of(self._tried(key, lambda: self._info(key)))

    def below(self, folder: str) -> dict[str, State]:
        """All objects by their keys; nothing where there is no such folder. Raises `SourceError` for too many."""
        try:
            return self.below_there(folder)
        except KeyError:
            return {}

    def below_there(self, folder: str) -> dict[str, State]:
        """The same, but `KeyError` where there is no such bucket: of a folder that is not there, stores say nothing."""
        stop = {STOPS[self.scheme]: MOST_BELOW + 1} if self.scheme in STOPS else {}

        def find() -> dict[str, Any]:
            self.fs.invalidate_cache()
            return dict(self.fs.find(folder, detail=True, **stop))

        found = self._tried(folder, find)
        if len(found) > MOST_BELOW:
            raise SourceError(
                f"below {self.address(folder)} lie more than {MOST_BELOW:,} objects; name a folder with fewer, or pack "
                "the pictures into shards or an archive"
            )
        return {key: state_of(info) for key, info in found.items() if info.get("type") != "directory"}

    def read(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, or those of them that there are."""
        read: bytes = self._tried(key, lambda: self.fs.cat_file(key, start=start, end=end))
        return read

    def whole(self, key: str, size: int) -> bytes:
        """All bytes in one answer, which is of one version. Raises `Changed` where they are not so many."""
        end = size + 1 if size else None  # one byte more, to see whether there is one; of nothing there is no range
        read: bytes = self._tried(key, lambda: self.fs.cat_file(key, start=0 if size else None, end=end))
        if len(read) != size:
            raise Changed
        return read

    def address(self, key: str) -> str:
        return f"{self.scheme}://{key.lstrip('/')}"

    def _info(self, key: str) -> dict[str, Any]:
        self.fs.invalidate_cache()
        found: dict[str, Any] = self.fs.info(key)
        if found.get("type") == "directory":
            raise FileNotFoundError(key)
        return found

    def _tried(self, key: str, act: Callable[[], Result]) -> Result:
        return patiently(act, self.address(key), self.scheme, self.patience)


def opened(url: str) -> tuple[Bucket, str]:
    """The store of an address, and the key in it. Raises `SourceError`."""
    scheme = url.partition("://")[0]
    try:
        import fsspec  # late: most runs fetch nothing

        with _sentences(url, scheme):
            fs = fsspec.filesystem(scheme, use_listings_cache=False, **OPTIONS.get(scheme, {}))
    except ImportError:
        package = {"s3": "s3fs", "gs": "gcsfs"}.get(scheme, "fsspec")
        extra = scheme if scheme in WAYS else "train"
        raise SourceError(
            f"{scheme}:// needs {package}, which is not installed; pip install 'trainserve[{extra}]'"
        ) from None
    if scheme == "s3":
        fs.retries = 1
    return Bucket(fs, scheme), str(fs._strip_protocol(url)).rstrip("/")


def state_of(info: Mapping[str, Any]) -> State:
    """What a store says of an object: its own word for the content, else the time of change."""
    said = [str(info[name]) for name in ("ETag", "etag", "generation", "md5Hash") if info.get(name)]
    times = [str(info[name]) for name in ("LastModified", "updated", "mtime", "created") if info.get(name)]
    return State(int(info["size"]), (said or times or [""])[0].strip('"'))


def patiently(act: Callable[[], Result], url: str, scheme: str, patience: Patience) -> Result:
    """Again after what may pass. Raises `KeyError` where there is no such thing, else `SourceError`."""
    for attempt in range(1, patience.attempts + 1):
        try:
            with _sentences(url, scheme, last=attempt == patience.attempts, attempts=attempt):
                return act()
        except _AgainError:
            time.sleep(min(patience.first_wait_s * 2 ** (attempt - 1), patience.longest_wait_s))
    raise AssertionError("the last attempt ends in a sentence")


class _AgainError(Exception):
    """It may go well another time."""


@contextmanager
def _sentences(url: str, scheme: str, *, last: bool = True, attempts: int = 1) -> Iterator[None]:
    """What the libraries raise, of which most are no errors of ours, as what a user can mend."""
    try:
        yield
    except (ImportError, Changed, SourceError, MemoryError):
        raise
    except FileNotFoundError:
        raise KeyError(url) from None
    except Exception as error:  # noqa: BLE001 - each library has errors of its own
        names, why = {kind.__name__ for kind in type(error).__mro__}, _reason(error)
        if names & CREDENTIALS:
            ways = WAYS.get(scheme, "the environment")
            raise DownloadError(f"{shown(url)} may not be read ({why}); set {ways} in the environment") from None
        if names & WRONG:
            raise DownloadError(f"{shown(url)} cannot be read ({why}); check the address") from None
        if not last:
            raise _AgainError from None
        kind = Unreachable if names & UNREACHABLE else DownloadError
        raise kind(
            f"{shown(url)} could not be fetched after {attempts} attempts ({why}); check the network and run again, "
            "which goes on from there"
        ) from None


def _reason(error: Exception) -> str:
    """Without the user, the password or the signature that an endpoint's address may have."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"\?\S+", "", re.sub(r"(?<=://)\S*@", "", text))[:200]
