"""What a source may be, told by its text and by what is there; nothing is fetched."""

import difflib
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Literal, assert_never
from urllib.parse import unquote, urlsplit

from pydantic import Field

from data import access, archive, torchvision_sets
from data.address import secret_in, shown
from data.errors import SourceError
from data.frozen import Frozen
from data.shards import index
from data.sources import bucket, listing, parts

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
    """An archive behind a URL, or a listing whose pictures lie beside or below it."""

    kind: Literal["url"] = "url"
    url: str


class Stored(Frozen):
    """An archive, a listing or a folder in a bucket."""

    kind: Literal["stored"] = "stored"
    url: str


class OnHub(Frozen):
    """A data set of the Hugging Face Hub."""

    kind: Literal["hub"] = "hub"
    repo: str
    config: str | None = None
    revision: str | None = None


Local = Folder | Archive | ListingFile
AnySource = Named | Local | Shards | Url | Stored | OnHub
Source = Annotated[AnySource, Field(discriminator="kind")]


def parse_source(text: str) -> AnySource:
    """What `text` names: an address, a known set, a folder, an archive or a listing. Raises `SourceError`."""
    if text.startswith(SHARDS):
        return _in_shards(text.removeprefix(SHARDS))
    if "://" in text:
        return _address(text)
    if (known := _known(text)) is not None:
        return Named(name=known)
    if text.startswith("hub:"):
        return _on_hub(text)
    path, is_folder, is_file = _looked_at(text)
    if is_folder:
        return Shards(place=str(path)) if index.is_there(path) else Folder(path=path)
    if is_file:
        return _file(path, text)
    if path.name.lower().endswith(archive.SUFFIXES) and (files := parts.of(path)) != (path,):
        return Archive(path=files[0])
    raise SourceError(_not_there(text))


def _looked_at(text: str) -> tuple[Path, bool, bool]:
    """The path, whether it is a folder, whether a file."""
    try:
        path = Path(text).expanduser()
        return path, path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # no right to look, a name too long, the home of nobody
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{text!r} cannot be looked at: {reason}; check its spelling and your rights") from None


def _in_shards(text: str) -> Shards:
    if "://" in text:
        _refuse_secrets(text)
        return Shards(place=text)
    path, is_folder, _ = _looked_at(text)
    if not is_folder:
        raise SourceError(_not_there(f"{text}/"))
    return Shards(place=str(path))


def _refuse_secrets(text: str) -> None:
    if (secret := secret_in(text)) is not None:
        ways = bucket.WAYS.get(text.partition("://")[0], access.WAYS)
        raise SourceError(
            f"dataset.source {shown(text).strip()} has {secret}, and would be kept with every run; leave that out, and "
            f"give what the server wants to see in {ways}"
        )


def _address(text: str) -> Url | Stored:
    _refuse_secrets(text)
    if text.partition("://")[0] in bucket.SCHEMES:
        return _stored(text)
    if not _is_web(text):
        raise SourceError(
            f"{text!r} is no http or https address, and none of {' or '.join(bucket.WAYS)}; fetch the archive and name "
            "the file"
        )
    if parts.part_of(file := Path(unquote(urlsplit(text).path)).name):
        raise SourceError(
            f"{shown(text)} is a part of {parts.whole_name(file)}, and a server does not say how many there are; "
            "fetch all parts into one folder and name the first"
        )
    return Url(url=text)


def _stored(text: str) -> Stored:
    scheme, _, key = text.partition("://")
    if not key.strip("/"):
        raise SourceError(f"{text!r} names no bucket; write such as {scheme}://bucket/folder")
    if wrong := re.search(r"[?#*\\]|//|(^|/)\.\.?(/|$)|[^ -\U0010ffff]", key):
        raise SourceError(f"{shown(text)} has {wrong[0]!r} in it, which no address of a bucket may have; leave it out")
    return Stored(url=text)


def _on_hub(text: str) -> OnHub:
    said = re.fullmatch(r"hub:(\w[\w.-]*/\w[\w.-]*)(?:/(\w[\w.-]*))?(?:@(\w[\w./-]*))?", text, re.ASCII)
    if said is None or ".." in text:
        raise SourceError(
            f"{text!r} is no data set of the hub; write hub:OWNER/NAME, hub:OWNER/NAME@REVISION, or "
            "hub:OWNER/NAME/FOLDER where it has several configurations"
        )
    return OnHub(repo=said[1], config=said[2], revision=said[3])


def default_name(source: AnySource) -> str:
    """What a data set is called if nobody says: flowers.tar.gz -> flowers. Shards of this machine are called as what
    they were written from, so that what was decided of those pictures, and which are kept for the test, holds on."""
    match source:
        case Named():
            return source.name
        case Folder():
            return slug(source.path.resolve().name)
        case Shards():
            folder = Path(source.place).expanduser()
            return slug(index.name_at(folder) or folder.resolve().name)
        case Archive():
            return slug(_stem(source.path.name))
        case ListingFile():
            return slug(source.path.stem)
        case OnHub():
            return slug(source.repo.rpartition("/")[2])
        case Url() | Stored():
            address = urlsplit(source.url)
            return slug(_stem(unquote(Path(address.path).name)) or address.netloc.partition(":")[0])
        case _:
            assert_never(source)


def slug(text: str) -> str:
    """Lower-case letters, digits and dashes, at most 63 of them, never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain)[:63].strip("-_") or "pictures"


def _file(path: Path, text: str) -> Archive | ListingFile:
    first = parts.of(path)[0]
    if first.name.lower().endswith(archive.SUFFIXES) or parts.is_first(first.name):
        return Archive(path=first)
    if path.suffix.lower() in listing.SUFFIXES:
        return ListingFile(path=path)
    raise SourceError(
        f"{text!r} is neither a folder nor an archive ({' '.join(archive.SUFFIXES)}) "
        f"nor a listing ({' '.join(listing.SUFFIXES)})"
    )


def _is_web(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a bracket or a port that is none
        return False


def _stem(file: str) -> str:
    file = parts.whole_name(file)
    for suffix in (*archive.SUFFIXES, *listing.SUFFIXES):
        if file.lower().endswith(suffix):
            return file[: -len(suffix)]
    return file


def _known(text: str) -> str | None:
    """CIFAR-10, cifar_10 and cifar10 are one."""
    plain = {re.sub(r"[-_]", "", name): name for name in NAMES}
    return plain.get(re.sub(r"[-_]", "", text.lower()))


def _not_there(text: str) -> str:
    if "/" in text or text.lower().endswith(archive.SUFFIXES):
        return f"there is no file or folder {text!r}; check its spelling, the current folder is {Path.cwd()}"
    near = difflib.get_close_matches(text.lower(), NAMES, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"the known names are {', '.join(NAMES)}"
    return f"{text!r} is no folder, no archive and no known data set; {remedy}"
