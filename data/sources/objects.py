"""An object of a store -> a file: resumed where it broke, of one version, whole or absent."""

from pathlib import Path

from data import progress as progress_
from data import whole
from data.errors import DownloadError, Unreachable
from data.origin import Origin, origin_file, origin_of
from data.progress import Progress
from data.sources.bucket import Bucket, Changed, State

CHUNK = 8 << 20  # bytes asked for at once
TRIES = 3  # of versions: something that is written for ever is never whole


def download(bucket: Bucket, key: str, target: Path, *, progress: Progress = progress_.ignore) -> Path:
    """The object at `target`, unless it is there in this version. Raises `DownloadError`; then `target` is as before.

    Where the store cannot be reached, the copy of an earlier run is used.
    """
    url = bucket.address(key)
    with whole.locked(target):
        origin = origin_of(target) if target.exists() else None
        try:
            state = bucket.state(key)
            if origin is None or (origin.url, origin.etag) != (url, state.version):
                bring(bucket, key, target, state, progress=progress)
        except Unreachable:
            if origin is None or origin.url != url:
                raise
            progress(f"{url} cannot be reached; using the copy of an earlier run", 0, 0)
        except KeyError:
            raise DownloadError(f"there is no {url}; check the address") from None
        except OSError as error:
            raise DownloadError(f"{target} cannot be written: {error.strerror}; make room or rights for it") from None
    return target


def bring(
    bucket: Bucket,
    key: str,
    target: Path,
    state: State,
    *,
    keep_origin: bool = True,
    progress: Progress = progress_.ignore,
) -> State:
    """The object, in the version that it turns out to have. Raises `KeyError`, `DownloadError` and `OSError`."""
    part = target.with_name(f"{target.name}.part")
    for _ in range(TRIES):
        try:
            _fill(bucket, key, part, state, progress)
        except Changed:
            part.unlink(missing_ok=True)
            state = bucket.state(key)
            continue
        if keep_origin:
            origin_file(target).unlink(missing_ok=True)  # a file without one is asked for once more
        part.replace(target)
        if keep_origin:
            _write_origin(bucket, key, target, state)
        origin_file(part).unlink(missing_ok=True)
        return state
    raise DownloadError(
        f"{bucket.address(key)} changed {TRIES} times while it was fetched; run again when it is written"
    )


def _fill(bucket: Bucket, key: str, part: Path, state: State, progress: Progress) -> None:
    """Raises `Changed` where it turns out to be another version."""
    if state.size <= CHUNK:
        part.write_bytes(bucket.whole(key, state.size))
        return
    origin = origin_of(part)
    if origin is None or (origin.url, origin.etag) != (bucket.address(key), state.version):
        part.unlink(missing_ok=True)  # before the new origin is named: they must never be of two versions
        _write_origin(bucket, key, part, state)
    with part.open("ab", buffering=0) as file:  # what came outlives a kill
        have = file.tell()
        while have < state.size:
            end = min(have + CHUNK, state.size)
            rest = memoryview(bucket.read(key, have, end))
            if len(rest) != end - have:
                raise Changed
            have = end
            while rest:  # a write may take less than it is given
                rest = rest[file.write(rest) :]
            progress("downloading", have, state.size)
    if have != state.size or bucket.state(key) != state:
        raise Changed


def _write_origin(bucket: Bucket, key: str, file: Path, state: State) -> None:
    origin = Origin(url=bucket.address(key), etag=state.version, modified=None)
    whole.write(origin_file(file), origin.model_dump_json().encode())
