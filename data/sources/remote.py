"""What lies in a bucket, or is listed on a web server -> a folder or a file on this machine."""

import hashlib
import os
import posixpath
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data import access, whole
from data.address import shown
from data.archive import is_hidden
from data.download import download
from data.errors import DownloadError, SourceError, Unreachable
from data.layout import PICTURES
from data.progress import Progress
from data.shards import index
from data.sources import bucket as bucket_
from data.sources import listing, mirror, objects, parts, web
from data.sources.bucket import Bucket, State

BESIDE = (".csv", ".jsonl", ".json", ".parquet", ".arrow")  # what may say of pictures what they show, or hold them
MOST_LISTED = 100_000  # pictures that are asked for one by one


def archive(url: str, downloads: Path, *, progress: Progress) -> Path:
    """An archive of a bucket, with all its parts: the file, or the first of them. Raises `SourceError`."""
    store, key = bucket_.opened(url)
    folder, _, name = key.rpartition("/")
    names = (name,) if parts.part_of(name) is None else _parts(store, folder, name)
    if not names:
        raise DownloadError(f"there is no {url}; check the address")
    mirror.refuse_names(names, url)
    place = downloads / called(url)  # no archive of that name from elsewhere, and no parts of another one, lie there
    with whole.locked(place):
        files = [objects.download(store, f"{folder}/{one}", place / one, progress=progress) for one in names]
        mirror.prune(place, names)  # parts that it had before
    return files[0]


def folder(url: str, datasets: Path, *, progress: Progress) -> Path:
    """The pictures below an address of a bucket, and what may belong to them, in a folder that is kept up to date.

    Where the store cannot be reached, the copy of an earlier run is used. Raises `SourceError`.
    """
    store, root = bucket_.opened(url)
    target = datasets / called(url)
    with whole.locked(target):
        try:
            found = {key.removeprefix(f"{root}/"): state for key, state in store.below(root).items() if key != root}
        except Unreachable as error:
            return _of_earlier(url, target, progress, error)
        wanted = {name: state for name, state in found.items() if _is_wanted(name)}
        if index.INDEX in found and any(name.endswith(f".tar{index.BESIDE}") for name in found):
            raise SourceError(f"{url} holds shards; write shards:{url}")
        if not wanted:
            raise SourceError(f"there is no picture below {url}; check the address")
        fetch(store, root, wanted, target, url, progress)
    return target


def listed(url: str, datasets: Path, *, progress: Progress) -> Path:
    """A listing in a bucket, and the pictures that it names, relative to it. Raises `SourceError`."""
    store, key = bucket_.opened(url)
    root, _, name = key.rpartition("/")
    target = datasets / called(url)
    mirror.refuse_names([name], url)
    with whole.locked(target):
        file = objects.download(store, key, target / name, progress=progress)
        names = listing.names(file)
        mirror.refuse_names(names, url)
        try:
            above = posixpath.commonpath([posixpath.dirname(one) for one in names])
            there = store.below(posixpath.join(root, above).rstrip("/"))
        except Unreachable as error:
            return _of_earlier(url, target, progress, error) / name
        wanted = {one: there[f"{root}/{one}"] for one in names if f"{root}/{one}" in there}
        if not wanted:  # refused before what is here is cleared away
            raise SourceError(
                f"none of the {len(names):,} files that {url} lists is there, such as {names[0]!r}; paths are relative "
                "to it"
            )
        fetch(store, root, wanted, target, url, progress, beside=_listing(name))
    return file


def listed_on_the_web(url: str, datasets: Path, *, sha256: str | None, progress: Progress) -> Path:
    """The same of a web server. Raises `SourceError`."""
    name, where = Path(unquote(urlsplit(url).path)).name, shown(url)
    mirror.refuse_names([name], where)
    headers = access.headers_for(url)
    target = datasets / called(url)
    with whole.locked(target):
        try:
            file = download(url, target / name, sha256=sha256, headers=headers, or_copy=False, progress=progress)
        except Unreachable as error:
            return _of_earlier(where, target, progress, error) / name
        names = listing.names(file)
        if len(names) > MOST_LISTED:
            raise SourceError(
                f"{where} lists {len(names):,} pictures, and at most {MOST_LISTED:,} are fetched one by one; "
                "pack them into an archive"
            )
        mirror.refuse_names(names, where)
        with web.pictures(url, headers) as bring:
            mirror.update(target, sorted(names), bring, progress=progress, beside=_listing(name))
        _asked_for(target)
    return file


def called(url: str) -> str:
    """A folder of its own for each address, under a name that one may know again."""
    from data.sources.kinds import slug  # which asks this module what a bucket holds

    name = slug(Path(unquote(urlsplit(url).path)).stem or urlsplit(url).netloc)
    return f"{name[:40]}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}"


def _parts(store: Bucket, folder: str, name: str) -> tuple[str, ...]:
    beside = (key.removeprefix(f"{folder}/") for key in store.below(folder))
    return parts.chosen(name, [one for one in beside if "/" not in one])


def fetch(
    store: Bucket,
    root: str,
    wanted: Mapping[str, State],
    target: Path,
    url: str,
    progress: Progress,
    *,
    beside: tuple[str, ...] = (),
) -> None:
    """The objects `wanted` below `root`, by their names there, as files below `target`. Raises `SourceError`."""
    mirror.refuse_names(wanted.keys(), url)
    there = mirror.known(target)
    todo = sum(state.size for name, state in wanted.items() if there.get(name) != state.version)
    mirror.refuse_size(len(wanted), todo, target, url)

    def bring(name: str, version: str | None, file: Path) -> str | None:
        if version is not None and version == wanted[name].version:
            return version
        return objects.bring(store, f"{root}/{name}", file, wanted[name], keep_origin=False).version

    mirror.update(target, sorted(wanted), bring, progress=progress, beside=beside)
    _asked_for(target)


def _asked_for(target: Path) -> None:
    """What nobody asks for any more is cleared away."""
    with suppress(OSError):
        os.utime(target)


def _of_earlier(url: str, target: Path, progress: Progress, error: Unreachable) -> Path:
    if not mirror.is_whole(target):
        raise error
    progress(f"{url} cannot be reached; using the copy of an earlier run", 0, 0)
    return target


def _is_wanted(name: str) -> bool:
    """An archive or a model that lies beside pictures is not fetched, nor what an editor left."""
    hidden = [piece for piece in name.split("/") if is_hidden(piece) and piece not in (".", "..")]  # those are refused
    return name.lower().endswith((*PICTURES, *BESIDE)) and not hidden


def _listing(name: str) -> tuple[str, ...]:
    return name, f"{name}.origin.json"
