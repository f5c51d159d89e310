"""How the pictures of a source come to lie in a folder of this machine."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never
from urllib.parse import unquote, urlsplit

from data import access, archive, digits, layout, torchvision_sets, whole
from data import progress as progress_
from data.address import shown
from data.download import download
from data.errors import DownloadError, SourceError
from data.layout import PARTS, PICTURES, Pictures
from data.progress import Progress
from data.shards import bucket, index
from data.shards.index import Index
from data.sources import gathered, hub, listing, parquet, parts, remote, tables
from data.sources.imagefolder import METADATA
from data.sources.kinds import (
    URLS,
    Archive,
    Folder,
    ListingFile,
    Named,
    OnHub,
    Shards,
    Stored,
    Url,
    default_name,
    parse_source,
    slug,
)
from data.spec import DatasetSpec


@dataclass(frozen=True)
class Fetched:
    """Pictures in a folder."""

    root: Path
    name: str
    mirror: bool  # False where a mirrored picture changes its class
    listing: Path | None = None  # says which of them, and what they show; None: their folders do
    shards: Index | None = None  # where they lie, if not in files


def fetch(spec: DatasetSpec, home: Path, *, progress: Progress | None = None, again: bool = False) -> Fetched:
    """The source's pictures in a folder, downloaded and unpacked below `home/datasets` if need be. `again`: this run
    has fetched them before, and nobody is asked whether there are others by now.

    Raises `SourceError` with one sentence; then nothing is half there.
    """
    source = parse_source(spec.source)
    name = spec.name or default_name(source)
    tell = progress or progress_.ignore
    match source:
        case Named():
            return _fetch_named(source.name, name, spec, home, tell, again=again)
        case Folder():
            return _of_folder(source.path.resolve(), name, spec, home, tell)
        case Shards():
            found = index.opened(bucket.place_of(source.place, home), home, progress=tell)
            called = spec.name or (slug(found.name) if found.name else name)
            return Fetched(found.place.folder, called, mirror=found.mirror, shards=found)
        case Archive():
            return _of_folder(_unpack(source.path.absolute(), name, spec, home, tell), name, spec, home, tell)
        case ListingFile():
            file = source.path.resolve()
            return Fetched(file.parent, name, mirror=True, listing=file)
        case Url():
            return _fetch_web(source.url, name, spec, home, tell, again=again)
        case Stored():
            return _fetch_stored(source.url, name, spec, home, tell, again=again)
        case OnHub():
            return _fetch_from_hub(source, name, spec, home, tell, again=again)
        case _:
            assert_never(source)


def fetch_all(spec: DatasetSpec, home: Path, *, progress: Progress | None = None, again: bool = False) -> list[Fetched]:
    """`dataset.source`, whose name is that of the whole, and `dataset.more`. Raises as `fetch`."""
    found = [fetch(spec, home, progress=progress, again=again)]
    for source in spec.more:
        one_more = spec.model_copy(update={"source": source, "name": None, "sha256": None})
        another = fetch(one_more, home, progress=progress, again=again)
        if (another.root, another.listing) in [(one.root, one.listing) for one in found]:
            raise SourceError(f"dataset.more has {shown(source)!r}, which is there already; leave it out")
        found.append(another)
    if len(found) > 1 and any(one.shards for one in found):
        raise SourceError("dataset.more cannot join shards; write all of the sources into one folder of shards")
    return found


def _fetch_named(known: str, name: str, spec: DatasetSpec, home: Path, progress: Progress, *, again: bool) -> Fetched:
    datasets = home / "datasets"
    if known == "digits":
        return Fetched(digits.write(datasets / known, progress=progress), name, mirror=False)
    if known in URLS:
        root = _fetch_url(URLS[known], datasets / "downloads", known, spec, home, progress, again=again)
        return Fetched(root, name, mirror=True)
    data_set = torchvision_sets.SETS[known]
    downloads = datasets / "downloads" / known
    root = torchvision_sets.write(data_set, datasets / known, name=known, downloads=downloads, progress=progress)
    return Fetched(root, name, mirror=data_set.mirror)


def _fetch_web(url: str, name: str, spec: DatasetSpec, home: Path, progress: Progress, *, again: bool) -> Fetched:
    if urlsplit(url).path.lower().endswith(listing.SUFFIXES):
        file = remote.listed_on_the_web(url, home / "datasets", sha256=spec.sha256, progress=progress, again=again)
        return Fetched(file.parent, name, mirror=True, listing=file)
    place = home / "datasets" / "downloads" / remote.called(url)  # no archive of that name from elsewhere lies there
    root = _fetch_url(url, place, name, spec, home, progress, headers=access.headers_for(url), again=again)
    return _of_folder(root, name, spec, home, progress)


def _fetch_stored(url: str, name: str, spec: DatasetSpec, home: Path, progress: Progress, *, again: bool) -> Fetched:
    datasets = home / "datasets"
    if parts.whole_name(url).lower().endswith(archive.SUFFIXES):
        file = remote.archive(url, datasets / "downloads", progress=progress, again=again)
        with whole.locked(file.parent):  # nobody replaces it between the digest and the last picture
            root = _unpack(file, name, spec, home, progress)
        return _of_folder(root, name, spec, home, progress)
    if url.lower().endswith(listing.SUFFIXES):
        file = remote.listed(url, datasets, sha256=spec.sha256, progress=progress, again=again)
        return Fetched(file.parent, name, mirror=True, listing=file)
    return _of_folder(remote.folder(url, datasets, progress=progress, again=again), name, spec, home, progress)


def _fetch_from_hub(
    source: OnHub, name: str, spec: DatasetSpec, home: Path, progress: Progress, *, again: bool
) -> Fetched:
    cache = home / "datasets" / "downloads" / "hub"
    root = hub.download(source.repo, source.config, source.revision, cache, progress=progress, again=again)
    if not root.is_dir() or not any(root.iterdir()):
        raise SourceError(
            f"hub:{source.repo} has neither Parquet files nor pictures, and code of a data set is never run; try "
            f"hub:{source.repo}@refs/convert/parquet"
        )
    return _of_folder(root, name, spec, home, progress)


def _of_folder(root: Path, name: str, spec: DatasetSpec, home: Path, progress: Progress) -> Fetched:
    """Of pictures, or of tables that hold them; where both are there, of pictures."""
    inner = tables.unwrapped(root)
    beside = [file for file in tables.parquet_files(inner) if Path(file).name not in METADATA]
    if beside and not tables.saved(inner) and _has_classes(inner, spec):
        progress(f"{inner / beside[0]} is not read: the folders beside it hold pictures of several classes", 0, 0)
        return Fetched(root, name, mirror=True)
    found = tables.shards(inner, spec.source.partition("@")[0] if spec.source.startswith("hub:") else spec.source)
    if not found:
        if beside and not any(file.lower().endswith(PICTURES) for file in layout.files_of(inner)):
            with parquet.opened(inner / beside[0]):  # or nobody can know whether it is a table of pictures
                pass
        return Fetched(root, name, mirror=True)
    file = hub.unpack(inner, found, name, home / "datasets", label=spec.label, progress=progress)
    return Fetched(file.parent, name, mirror=True, listing=file)


def _has_classes(root: Path, spec: DatasetSpec) -> bool:
    """Whether its folders, or metadata in it, tell pictures of several classes: what illustrates a table does not."""
    try:
        labels = Pictures.of(gathered.of_folder(root, spec).pictures).labels.distinct
    except SourceError:
        return False
    return sum(label.lower() not in PARTS for label in labels) > 1


def _fetch_url(
    url: str,
    place: Path,
    name: str,
    spec: DatasetSpec,
    home: Path,
    progress: Progress,
    *,
    headers: dict[str, str] | None = None,
    again: bool,
) -> Path:
    called = Path(unquote(urlsplit(url).path)).name
    target = place / (re.sub(r"[^\w.-]+", "-", called)[-100:].lstrip(".") or "archive")
    fetched = again and target.exists()
    file = target if fetched else download(url, target, sha256=spec.sha256, headers=headers, progress=progress)
    with whole.locked(file):  # nobody replaces it between the digest and the last picture
        return _unpack(file, name, spec, home, progress)


def _unpack(file: Path, name: str, spec: DatasetSpec, home: Path, progress: Progress) -> Path:
    """By content, so that a changed archive of the same name is another folder."""
    digest = parts.digest(file, home)
    if spec.sha256 is not None and digest != spec.sha256:
        raise DownloadError(
            f"{file} has sha256 {digest[:12]}..., expected {spec.sha256[:12]}...; "
            "fetch it again or correct dataset.sha256"
        )
    return archive.extract(file, home / "datasets" / f"{name}-{digest[:12]}", progress=progress)
