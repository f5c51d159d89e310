"""What lies in a bucket, or is listed on a web server -> a folder or a file on this machine."""

import hashlib
import os
import posixpath
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data import access, whole
from data.address import shown
from data.archive import is_hidden
from data.download import differs, download
from data.errors import DownloadError, SourceError, Unreachable
from data.layout import PICTURES
from data.progress import Progress
from data.shards import index
from data.sources import bucket as bucket_
from data.sources import listing, mirror, objects, parts, web
from data.sources.bucket import Bucket, State

BESIDE = (".csv", ".jsonl", ".json", ".parquet", ".arrow")  # what may say of pictures what they show, or hold them
MOST_LISTED = 100_000  # pictures that are asked for one by one


def archive(url: str, downloads: Path, *, progress: Progress, again: bool = False) -> Path:
    """An archive of a bucket, with all its parts: the file, or the first of them. Raises `SourceError`.

    `again`, here and below: this run has fetched it before, and what is there is taken as it is.
    """
    place = downloads / called(url)  # no archive of that name from elsewhere, and no parts of another one, lie there
    if again and (there := place / url.rpartition("/")[2]).exists():
        return parts.of(there)[0]
    store, key = bucket_.opened(url)
    folder, _, name = key.rpartition("/")
    names = (name,) if parts.part_of(name) is None else _parts(store, folder, name)
    if not names:
        raise DownloadError(f"there is no {url}; check the address")
    mirror.refuse_names(names, url)
    with whole.locked(place):
        files = [objects.download(store, f"{folder}/{one}", place / one, progress=progress) for one in names]
        mirror.prune(place, names)  # parts that it had before
    return files[0]


def folder(url: str, datasets: Path, *, progress: Progress, again: bool = False) -> Path:
    """The pictures below an address of a bucket, and what may belong to them, in a folder that is kept up to date.

    Where the store cannot be reached, the copy of an earlier run is used. Raises `SourceError`.
    """
    target = datasets / called(url)
    if again:
        return _as_it_is(url, target, target)
    store, root = bucket_.opened(url)
    with whole.locked(target):
        try:
            found = {key.removeprefix(f"{root}/"): state for key, state in store.below(root).items() if key != root}
        except Unreachable as error:
            return _of_earlier(url, target, target, progress, error)
        wanted = {name: state for name, state in found.items() if _is_wanted(name)}
        if index.INDEX in found and any(name.endswith(f".tar{index.BESIDE}") for name in found):
            raise SourceError(f"{url} holds shards; write shards:{url}")
        if not wanted:
            raise SourceError(f"there is no picture below {url}; check the address")
        fetch(store, root, wanted, target, url, progress)
    return target


def listed(url: str, datasets: Path, *, sha256: str | None, progress: Progress, again: bool = False) -> Path:
    """A listing in a bucket, and the pictures that it names, relative to it. Raises `SourceError`."""
    target, name = datasets / called(url), url.rpartition("/")[2]
    if again:
        return _as_it_is(url, target, target / name)
    store, key = bucket_.opened(url)
    root = key.rpartition("/")[0]
    mirror.refuse_names([name], url)
    with whole.locked(target):
        file = objects.download(store, key, target / name, progress=progress)
        if sha256 is not None and (found := _digest(file)) != sha256:
            raise DownloadError(differs(url, found, sha256))
        names = listing.names(file)
        mirror.refuse_names(names, url)
        try:
            above = posixpath.commonpath([posixpath.dirname(one) for one in names])
            there = store.below(posixpath.join(root, above).rstrip("/"))
        except Unreachable as error:
            return _of_earlier(url, target, file, progress, error)
        wanted = {one: there[f"{root}/{one}"] for one in names if f"{root}/{one}" in there}
        if not wanted:  # refused before what is here is cleared away
            raise SourceError(
                f"none of the {len(names):,} files that {url} lists is there, such as {names[0]!r}; paths are relative "
                "to it"
            )
        fetch(store, root, wanted, target, url, progress, beside=_listing(name), of=_digest(file))
    return file


def listed_on_the_web(url: str, datasets: Path, *, sha256: str | None, progress: Progress, again: bool = False) -> Path:
    """The same of a web server. Raises `SourceError`."""
    name, where = Path(unquote(urlsplit(url).path)).name, shown(url)
    mirror.refuse_names([name], where)
    headers = access.headers_for(url)
    target = datasets / called(url)
    file = target / name
    if again:
        return _as_it_is(where, target, file)
    with whole.locked(target):
        try:
            download(url, file, sha256=sha256, headers=headers, or_copy=False, progress=progress)
            names = _few_enough(listing.names(file), where)
            with web.pictures(url, headers) as bring:
                mirror.update(
                    target, names, bring, progress=progress, beside=_listing(name), of=_digest(file), where=where
                )
        except Unreachable as error:
            return _of_earlier(where, target, file, progress, error, sha256)
        _asked_for(target)
    return file


def _few_enough(names: Sequence[str], where: str) -> list[str]:
    """In order. Raises `SourceError` for too many, or odd ones."""
    if len(names) > MOST_LISTED:
        raise SourceError(
            f"{where} lists {len(names):,} pictures, and at most {MOST_LISTED:,} are fetched one by one; "
            "pack them into an archive"
        )
    mirror.refuse_names(names, where)
    return sorted(names)


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
    of: str = "",
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

    mirror.update(target, sorted(wanted), bring, progress=progress, beside=beside, of=of, where=url)
    _asked_for(target)


def _asked_for(target: Path) -> None:
    """What nobody asks for any more is cleared away."""
    with suppress(OSError):
        os.utime(target)


def _of_earlier(
    where: str, target: Path, file: Path, progress: Progress, error: Unreachable, sha256: str | None = None
) -> Path:
    """`file`: what is asked for, the folder itself or the listing in it, which is to be the one of that `sha256`."""
    if sha256 not in (None, found := _digest(file)) or not mirror.is_whole(target, found):
        raise error
    progress(f"{where} cannot be reached; using the copy of an earlier run", 0, 0)
    return file


def _as_it_is(where: str, target: Path, file: Path) -> Path:
    with whole.locked(target):  # another run may be at it
        if not mirror.is_whole(target, _digest(file)):
            raise DownloadError(
                f"the copy of {where} in {target} is not whole any more; run again, which fetches what is missing"
            )
    return file


def _digest(file: Path) -> str:
    """Of a listing: by which it is known of which pictures a mirror is. Of a folder, nothing."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _is_wanted(name: str) -> bool:
    """An archive or a model that lies beside pictures is not fetched, nor what an editor left."""
    hidden = [piece for piece in name.split("/") if is_hidden(piece) and piece not in (".", "..")]  # those are refused
    return name.lower().endswith((*PICTURES, *BESIDE)) and not hidden


def _listing(name: str) -> tuple[str, ...]:
    return name, f"{name}.origin.json"
