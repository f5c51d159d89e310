"""A folder of pictures -> which file belongs to which class and part. Looks at names only."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.archive import is_hidden
from data.errors import SourceError
from data.spec import Part

if TYPE_CHECKING:  # which makes listings itself
    from data.shards.index import Index

PICTURES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
PARTS = {"train": Part.TRAIN, "val": Part.VAL, "valid": Part.VAL, "validation": Part.VAL, "test": Part.TEST}


@dataclass(frozen=True)
class Listed:
    """One picture file."""

    file: str  # relative to the root, posix
    label: str
    part: Part | None
    group: str | None = None  # patient, camera, session: what must not be in two parts
    time: str | None = None  # ISO 8601 in UTC, so that texts are in the order of time


@dataclass(frozen=True)
class Listing:
    """What lies below a root. A class folder without pictures is among the ignored, with a slash at its end."""

    root: Path
    pictures: tuple[Listed, ...]
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # files that a listing names and that are not there
    file: Path | None = None  # the listing, where one says which pictures there are
    shards: "Index | None" = None  # where the pictures lie, if that is not in files


def read(root: Path) -> Listing:
    """`<class>/*` or `train|val|valid|validation|test/<class>/*`, below any number of single wrapping folders."""
    files = list(_walk(root, "", (root.resolve(),)))
    pictures = [file for file in files if file.lower().endswith(PICTURES)]
    wrap = _wrapping(pictures)
    parts = _stated_parts(root, [file.removeprefix(wrap) for file in pictures if file.startswith(wrap)])
    listed, ignored, labels_of_ignored = [], [], {}
    for file in files:
        folders = file.removeprefix(wrap).split("/")[:-1] if file.startswith(wrap) else []
        part = parts.get(folders[0]) if folders else None
        depth = 0 if part is None else 1
        label = class_name(folders[depth]) if len(folders) > depth else None
        if label is not None and file.lower().endswith(PICTURES):
            listed.append(Listed(file, label, part))
            continue
        ignored.append(file)  # no picture, or one that lies in no class folder
        if label is not None:
            labels_of_ignored[wrap + "/".join(folders[: depth + 1]) + "/"] = label
    labels = {picture.label for picture in listed}
    empty = {folder for folder, label in labels_of_ignored.items() if label not in labels}
    astray = {file for file in ignored if not file.endswith("/")}
    return Listing(root, tuple(listed), tuple(sorted(empty | astray)))


def joined(listings: Sequence[Listing]) -> Listing:
    """All of them as one, in their order. The names of several begin where their roots part, below the folder that all
    lie in."""
    if len(listings) == 1:
        return listings[0]
    roots = [one.root.resolve() for one in listings]
    top = Path(os.path.commonpath(roots))
    below = ["" if root == top else f"{root.relative_to(top).as_posix()}/" for root in roots]
    both = list(zip(below, listings, strict=True))
    return Listing(
        root=top,
        pictures=tuple(replace(picture, file=begin + picture.file) for begin, one in both for picture in one.pictures),
        ignored=tuple(begin + file for begin, one in both for file in one.ignored),
        missing=tuple(begin + file for begin, one in both for file in one.missing),
    )


def natural(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key: 2 before 10, upper and lower case together."""
    pieces = re.split(r"(\d+)", text.casefold())
    return tuple((1, int(p), "") if p.isdecimal() else (2, 0, p) for p in pieces if p), text


def class_name(folder: str) -> str:
    """The folder's name in one Unicode form (macOS writes another), and with nothing that is no text."""
    return unicodedata.normalize("NFC", folder).encode("utf-8", "replace").decode()


def _walk(root: Path, below: str, above: tuple[Path, ...]) -> Iterator[str]:
    """Files below a folder, hidden ones left out, links followed unless they lead round; empty folders as `name/`."""
    try:
        entries = sorted(os.scandir(root / below), key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(f"{root / below} cannot be read: {error.strerror}; make it readable or remove it") from None
    seen = [entry for entry in entries if not is_hidden(entry.name)]
    if below and not seen:
        yield below
    for entry in seen:
        if entry.is_dir():
            resolved = Path(entry.path).resolve() if entry.is_symlink() else Path(entry.path)
            if not entry.is_symlink() or resolved not in above:
                yield from _walk(root, f"{below}{entry.name}/", (*above, resolved))
        elif entry.is_file():
            yield below + entry.name


def _wrapping(pictures: list[str]) -> str:
    """The folders around everything, such as `flowers/`: each is the only one, and holds nothing but folders."""
    wrap = ""
    while True:
        inside = [file.removeprefix(wrap) for file in pictures if file.startswith(wrap) and "/" in file[len(wrap) :]]
        tops = {file.partition("/")[0] for file in inside}
        if len(tops) != 1 or (top := tops.pop()).lower() in PARTS or any(file.count("/") == 1 for file in inside):
            return wrap
        wrap = f"{wrap}{top}/"


def _stated_parts(root: Path, pictures: list[str]) -> dict[str, Part]:
    """Folder -> part, where the top folders say parts and hold class folders; empty where they are classes.

    Pictures that lie in such a folder itself have no class: a test folder without labels, as competitions have it.
    """
    tops = {file.split("/")[0] for file in pictures if "/" in file}
    parts = {top: PARTS[top.lower()] for top in tops if top.lower() in PARTS}
    others = sorted(tops - set(parts))
    if not any(file.count("/") > 1 and file.split("/")[0] in parts for file in pictures):
        return {}
    if len(parts) > 1 and others:
        raise SourceError(
            f"{root} has {', '.join(sorted(parts))} beside {', '.join(others[:5])}; keep either folders of parts "
            "(train, val, test) with class folders in them, or class folders alone"
        )
    return {} if others else parts
