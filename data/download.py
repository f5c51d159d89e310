"""A URL -> a file: resumed where it broke, verified, whole or absent."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data import progress as progress_
from data import whole
from data.access import WAYS, Only
from data.address import shown
from data.errors import DownloadError, Unreachable
from data.origin import Origin, is_of, origin_file, origin_of
from data.progress import Progress

if TYPE_CHECKING:
    import httpx

TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How long a download is tried for."""

    attempts: int = 5  # in a row without getting further
    first_wait_s: float = 0.5  # doubles with each
    longest_wait_s: float = 30.0
    silence_s: float = 30.0  # without a byte, or with fewer than `slowest` bytes a second
    slowest: int = 1024  # bytes a second


class Broken(Exception):  # noqa: N818 - internal
    """The connection did not bring everything; another may."""

    def __init__(self, reason: str, *, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    headers: dict[str, str] | None = None,
    or_copy: bool = True,
    progress: Progress = progress_.ignore,
    patience: Patience | None = None,
) -> Path:
    """The file behind `url` at `target`. Raises `DownloadError`; then `target` is what it was before.

    `headers` go to that server alone, and not where it sends us on to.

    No byte that reached the disk is asked for again, wherever an earlier try was killed, if the server knows ranges and
    names the version of the file by a strong ETag or a date. Otherwise each try begins anew.

    A file that is there already is kept if its sha256 is the one asked for, if it was put there by hand,
    or if the server says that it has not changed (or cannot be reached; not `or_copy`: then `Unreachable` is raised).
    """
    with whole.locked(target):
        if target.exists() and (_matches(target, sha256) if sha256 else not origin_file(target).exists()):
            return target
        try:
            return _until_whole(url, target, sha256, headers or {}, progress, patience or Patience())
        except Unreachable:
            if sha256 or not or_copy or not is_of(url, target):
                raise
            progress(f"{shown(url)} cannot be reached; using the copy of an earlier run", 0, 0)
            return target
        except OSError as error:
            raise DownloadError(f"{target} cannot be written: {error.strerror}; make room or rights for it") from None


def _until_whole(
    url: str, target: Path, sha256: str | None, headers: dict[str, str], progress: Progress, patience: Patience
) -> Path:
    import httpx  # late: a third of a second, and most runs fetch nothing

    part = target.with_name(f"{target.name}.part")
    failures, doubted = 0, False
    with _client(url, headers, patience) as client:
        while True:
            before = _size(part)
            try:
                if not _attempt(client, url, None if sha256 else target, part, progress, patience):
                    return target
                if sha256 is None or _matches(part, sha256):
                    part.replace(target)  # before its origin: a target without one is only asked for once more
                    origin_file(part).replace(origin_file(target))
                    return target
                refusal = differs(url, _sha256(part), sha256)
                part.unlink()
                if doubted or not before:
                    raise DownloadError(refusal)
                doubted = True  # bytes of an earlier try may be at fault: once more, from the start
            except httpx.InvalidURL as error:
                raise DownloadError(f"{shown(url)!r} is no URL: {error}; check its spelling") from None
            except (Broken, httpx.TransportError, httpx.TooManyRedirects) as error:
                failures = 1 if _size(part) > before else failures + 1
                if failures >= patience.attempts:
                    kind = Unreachable if isinstance(error, httpx.ConnectError) else DownloadError
                    raise kind(_gave_up(url, target, error, failures)) from None
                wait_s = patience.first_wait_s * 2 ** (failures - 1)
                if isinstance(error, Broken) and error.wait_s is not None:
                    wait_s = max(wait_s, error.wait_s)
                time.sleep(min(wait_s, patience.longest_wait_s))


def _client(url: str, headers: dict[str, str], patience: Patience) -> "httpx.Client":
    import httpx

    return httpx.Client(
        follow_redirects=True,
        timeout=httpx.Timeout(patience.silence_s),
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [Only(url, headers)]},
    )


def _attempt(
    client: "httpx.Client", url: str, earlier: Path | None, part: Path, progress: Progress, patience: Patience
) -> bool:
    """One request; True: `part` is whole, False: `earlier` is still what the server has. Raises if it breaks."""
    have, headers = _resume(url, part)
    if not have and earlier is not None and earlier.exists():
        headers = _unless_changed(url, earlier)
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 304:
            return False
        if response.status_code == 416 and response.headers.get("content-range") == f"bytes */{have}":
            return True  # nothing is left: an earlier run was killed with the last byte on disk
        total = _accept(url, response, part, have)
        if response.status_code == 200:
            have = 0
            origin = Origin(url=url, etag=response.headers.get("etag"), modified=response.headers.get("last-modified"))
            part.unlink(missing_ok=True)  # before the new origin is named: they must never be of two versions
            whole.write(origin_file(part), origin.model_dump_json().encode())
        with part.open("ab", buffering=0) as file:  # what came outlives a kill
            for chunk in fast_enough(response, patience):
                rest = chunk
                while rest:  # a write may take less than it is given
                    rest = rest[file.write(rest) :]
                have += len(chunk)
                progress("downloading", have, total or 0)
    if total is not None and have != total:
        if have > total:
            part.unlink()
        raise Broken(f"{have:,} of {total:,} bytes came")
    return True


def _resume(url: str, part: Path) -> tuple[int, dict[str, str]]:
    """How many bytes of `part` can be built upon, and the headers that ask for the rest."""
    origin, have = origin_of(part), _size(part)
    if not have or origin is None or origin.url != url or origin.validator is None:
        return 0, {}
    return have, {"Range": f"bytes={have}-", "If-Range": origin.validator}


def _unless_changed(url: str, target: Path) -> dict[str, str]:
    origin = origin_of(target)
    if origin is None or origin.url != url:
        return {}
    asked = {"If-None-Match": origin.etag, "If-Modified-Since": origin.modified}
    return {header: value for header, value in asked.items() if value is not None}


def _accept(url: str, response: "httpx.Response", part: Path, have: int) -> int | None:
    """The size of the whole file, if the server says it. Raises unless the answer is (the rest of) the file."""
    status = response.status_code
    if status == 200:
        length = response.headers.get("content-length", "")
        return int(length) if length.isdecimal() else None
    if status == 206 and have:
        span, _, total = response.headers.get("content-range", "").removeprefix("bytes ").partition("/")
        if span.startswith(f"{have}-"):
            return int(total) if total.isdecimal() else None
    if status in (206, 416):  # not the bytes asked for: begin again
        part.unlink(missing_ok=True)
        raise Broken(f"status {status} for bytes from {have:,}")
    if status in TRY_AGAIN:
        after = response.headers.get("retry-after", "")
        raise Broken(f"status {status}", wait_s=float(after) if after.isdecimal() else None)
    remedy = f"give what it wants to see in {WAYS}" if status in (401, 403) else "check the address"
    raise DownloadError(f"{shown(url)} answers with status {status} {response.reason_phrase}; {remedy}")


def fast_enough(response: "httpx.Response", patience: Patience) -> Iterator[bytes]:
    """The raw bytes; raises when they drip. A time-out between two bytes alone would wait for ever."""
    since, got = time.monotonic(), 0
    for chunk in response.iter_raw():
        yield chunk
        got += len(chunk)
        seconds = time.monotonic() - since
        if seconds > patience.silence_s:
            if got < patience.slowest * seconds:
                raise Broken(f"only {got:,} bytes in {seconds:.0f} s")
            since, got = time.monotonic(), 0


def differs(url: str, found: str, sha256: str) -> str:
    """What is said of a file that has another digest than was asked for."""
    return (
        f"{shown(url)} has sha256 {found[:12]}..., expected {sha256[:12]}...; "
        "check dataset.sha256, or ask who offers the file"
    )


def _gave_up(url: str, target: Path, error: Exception, failures: int) -> str:
    reason = str(error) or type(error).__name__
    return (
        f"{shown(url)} could not be downloaded after {failures} attempts ({reason}); "
        f"check the network and run again, or put the file at {target}"
    )


def _matches(file: Path, sha256: str) -> bool:
    return _sha256(file) == sha256


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
