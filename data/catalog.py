"""What a source is, and how its pictures come to lie in a folder of this machine."""

import difflib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, assert_never
from urllib.parse import unquote, urlsplit

from pydantic import Field

from data import access, archive, digests, digits, torchvision_sets
from data import progress as progress_
from data.address import secret_in, shown
from data.download import download
from data.errors import DownloadError, SourceError
from data.progress import Progress
from data.shards import bucket, index
from data.shards.index import Index
from data.sources import listing
from data.spec import DatasetSpec, Frozen

URLS = {"hymenoptera": "https://download.pytorch.org/tutorial/hymenoptera_data.zip"}  # ants and bees: train and val
SHARDS = "shards:"  # before a folder of tar files that bring no index
NAMES = ("digits", *URLS, *torchvision_sets.SETS)


class Named(Frozen):
    """A data set of the catalogue."""

    kind: Literal["named"] = "named"
    name: str


class Folder(Frozen):
    """A folder of pictures: used where it is, never written to."""

    kind: Literal["folder"] = "folder"
    path: Path


class Archive(Frozen):
    """An archive on this machine."""

    kind: Literal["archive"] = "archive"
    path: Path


class ListingFile(Frozen):
    """A table of pictures on this machine, which lie where its paths say, relative to it."""

    kind: Literal["listing"] = "listing"
    path: Path


class Shards(Frozen):
    """A folder of tar files, in which the pictures stay."""

    kind: Literal["shards"] = "shards"
    place: str  # a folder of this machine, or the address of one in a bucket


class Url(Frozen):
    """An archive behind a URL."""

    kind: Literal["url"] = "url"
    url: str


Local = Folder | Archive | ListingFile
AnySource = Named | Local | Shards | Url
Source = Annotated[AnySource, Field(discriminator="kind")]


@dataclass(frozen=True)
class Fetched:
    """Pictures in a folder."""

    root: Path
    name: str
    mirror: bool  # False where a mirrored picture changes its class
    listing: Path | None = None  # says which of them, and what they show; None: their folders do
    shards: Index | None = None  # where they lie, if not in files


def parse_source(text: str) -> AnySource:
    """What `text` names: a URL, a set of the catalogue, a folder, an archive or a listing. Raises `SourceError`."""
    in_shards, text = text.startswith(SHARDS), text.removeprefix(SHARDS)
    if "://" in text:
        if (secret := secret_in(text)) is not None:
            raise SourceError(
                f"dataset.source {shown(text)} has {secret}, and would be kept with every run; leave that out, and "
                f"give what the server wants to see in {access.WAYS}"
            )
        if in_shards:
            return Shards(place=text)
        if not _is_web(text):
            raise SourceError(f"{text!r} is no http or https address; fetch the archive and name the file")
        return Url(url=text)
    if not in_shards and (known := _known(text)) is not None:
        return Named(name=known)
    try:
        path = Path(text).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # no right to look, a name too long, the home of nobody
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{text!r} cannot be looked at: {reason}; check its spelling and your rights") from None
    if is_folder:
        return Shards(place=str(path)) if in_shards or index.is_there(path) else Folder(path=path)
    if is_file and not in_shards:
        return _file(path, text)
    raise SourceError(_not_there(f"{text}/" if in_shards else text))


def default_name(source: AnySource) -> str:
    """What a data set is called if nobody says: flowers.tar.gz -> flowers."""
    match source:
        case Named():
            return source.name
        case Folder():
            return slug(source.path.resolve().name)
        case Shards():
            return slug(Path(source.place).resolve().name)
        case Archive():
            return slug(_stem(source.path.name))
        case ListingFile():
            return slug(source.path.stem)
        case Url():
            parts = urlsplit(source.url)
            return slug(_stem(unquote(Path(parts.path).name)) or parts.hostname or "")
        case _:
            assert_never(source)


def fetch(spec: DatasetSpec, home: Path, *, progress: Progress | None = None) -> Fetched:
    """The source's pictures in a folder, downloaded and unpacked below `home/datasets` if need be.

    Raises `SourceError` with one sentence; then nothing is half there.
    """
    source = parse_source(spec.source)
    name = spec.name or default_name(source)
    tell = progress or progress_.ignore
    match source:
        case Named():
            return _fetch_named(source.name, name, spec, home, tell)
        case Folder():
            return Fetched(source.path.resolve(), name, mirror=True)
        case Shards():
            found = index.opened(bucket.place_of(source.place, home), home, progress=tell)
            return Fetched(found.place.folder, name, mirror=found.mirror, shards=found)
        case Archive():
            return Fetched(_unpack(source.path.resolve(), name, spec, home, tell), name, mirror=True)
        case ListingFile():
            file = source.path.resolve()
            return Fetched(file.parent, name, mirror=True, listing=file)
        case Url():
            secret = access.headers_for(source.url)
            return Fetched(_fetch_url(source.url, name, spec, home, tell, headers=secret), name, mirror=True)
        case _:
            assert_never(source)


def fetch_all(spec: DatasetSpec, home: Path, *, progress: Progress | None = None) -> list[Fetched]:
    """`dataset.source`, whose name is that of the whole, and `dataset.more`. Raises as `fetch`."""
    found = [fetch(spec, home, progress=progress)]
    for source in spec.more:
        another = fetch(
            spec.model_copy(update={"source": source, "name": None, "sha256": None}), home, progress=progress
        )
        if (another.root, another.listing) in [(one.root, one.listing) for one in found]:
            raise SourceError(f"dataset.more has {shown(source)!r}, which is there already; leave it out")
        found.append(another)
    if len(found) > 1 and any(one.shards for one in found):
        raise SourceError("dataset.more cannot join shards; write all of the sources into one folder of shards")
    return found


def slug(text: str) -> str:
    """Lower-case letters, digits and dashes, at most 63 of them, never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain)[:63].strip("-_") or "pictures"


def _file(path: Path, text: str) -> Archive | ListingFile:
    if path.name.lower().endswith(archive.SUFFIXES):
        return Archive(path=path)
    if path.suffix.lower() in listing.SUFFIXES:
        return ListingFile(path=path)
    raise SourceError(
        f"{text!r} is neither a folder nor an archive ({' '.join(archive.SUFFIXES)}) "
        f"nor a listing ({' '.join(listing.SUFFIXES)})"
    )


def _fetch_named(known: str, name: str, spec: DatasetSpec, home: Path, progress: Progress) -> Fetched:
    datasets = home / "datasets"
    if known == "digits":
        return Fetched(digits.write(datasets / known, progress=progress), name, mirror=False)
    if known in URLS:
        return Fetched(_fetch_url(URLS[known], known, spec, home, progress), name, mirror=True)
    data_set = torchvision_sets.SETS[known]
    downloads = datasets / "downloads" / known
    root = torchvision_sets.write(data_set, datasets / known, name=known, downloads=downloads, progress=progress)
    return Fetched(root, name, mirror=data_set.mirror)


def _fetch_url(
    url: str, name: str, spec: DatasetSpec, home: Path, progress: Progress, *, headers: dict[str, str] | None = None
) -> Path:
    called = Path(unquote(urlsplit(url).path)).name
    target = home / "datasets" / "downloads" / (re.sub(r"[^\w.-]+", "-", called)[-100:].lstrip(".") or "archive")
    file = download(url, target, sha256=spec.sha256, headers=headers, progress=progress)
    return _unpack(file, name, spec, home, progress)


def _unpack(file: Path, name: str, spec: DatasetSpec, home: Path, progress: Progress) -> Path:
    """By content, so that a changed archive of the same name is another folder."""
    digest = digests.of_file(file, home)
    if spec.sha256 is not None and digest != spec.sha256:
        raise DownloadError(
            f"{file} has sha256 {digest[:12]}..., expected {spec.sha256[:12]}...; "
            "fetch it again or correct dataset.sha256"
        )
    return archive.extract(file, home / "datasets" / f"{name}-{digest[:12]}", progress=progress)


def _is_web(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a bracket or a port that is none
        return False


def _stem(file: str) -> str:
    return next((file[: -len(one)] for one in archive.SUFFIXES if file.lower().endswith(one)), file)


def _known(text: str) -> str | None:
    """CIFAR-10, cifar_10 and cifar10 are one."""
    return {re.sub(r"[-_]", "", name): name for name in NAMES}.get(re.sub(r"[-_]", "", text.lower()))


def _not_there(text: str) -> str:
    if "/" in text or text.lower().endswith(archive.SUFFIXES):
        return f"there is no file or folder {text!r}; check its spelling, the current folder is {Path.cwd()}"
    near = " or ".join(difflib.get_close_matches(text.lower(), NAMES, n=3, cutoff=0.5))
    remedy = f"did you mean {near}?" if near else f"the known names are {', '.join(NAMES)}"
    return f"{text!r} is no folder, no archive and no known data set; {remedy}"
