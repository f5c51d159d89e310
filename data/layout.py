"""A folder of pictures -> which file belongs to which class and part. Looks at names only."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.archive import is_hidden
from data.compact import Coded, Compact, Texts, at_a_time
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


class Pictures(Compact[Listed]):
    """N of them, a few bytes beside their names."""

    def __init__(
        self,
        files: Texts[str],
        labels: Coded[str],
        parts: Coded[Part | None],
        groups: Coded[str | None],
        times: Texts[str | None],
    ) -> None:
        self.files, self.labels, self.parts, self.groups, self.times = files, labels, parts, groups, times

    @classmethod
    def of(cls, pictures: Iterable[Listed]) -> "Pictures":
        """Of any number; few of them are in memory at a time."""
        return pictures if isinstance(pictures, Pictures) else cls.joined(map(cls._of, at_a_time(pictures)))

    @classmethod
    def _of(cls, pictures: Sequence[Listed]) -> "Pictures":
        return cls(
            Texts.of(one.file for one in pictures),
            Coded.of(one.label for one in pictures),
            Coded.of(one.part for one in pictures),
            Coded.of(one.group for one in pictures),
            Texts.of(one.time for one in pictures),
        )

    @classmethod
    def joined(cls, several: Iterable["Pictures"]) -> "Pictures":
        """One behind the other."""
        every = list(several)
        return cls(
            Texts.joined([one.files for one in every]),
            Coded.joined([one.labels for one in every]),
            Coded.joined([one.parts for one in every]),
            Coded.joined([one.groups for one in every]),
            Texts.joined([one.times for one in every]),
        )

    def below(self, folder: str) -> "Pictures":
        """With `folder`, which ends with a slash or is empty, before their names."""
        files = Texts.of(folder + file for file in self.files) if folder else self.files
        return Pictures(files, *self._columns[1:])

    def grouped(self, groups: Coded[str | None]) -> "Pictures":
        return Pictures(self.files, self.labels, self.parts, groups, self.times)

    def renamed(self, name: Callable[[str], str]) -> "Pictures":
        """With other classes."""
        return Pictures(self.files, self.labels.replaced(name), self.parts, self.groups, self.times)

    def __len__(self) -> int:
        return len(self.files)

    def taken(self, rows: np.ndarray) -> "Pictures":
        return Pictures(*(column.taken(rows) for column in self._columns))

    def values(self, start: int, end: int) -> list[Listed]:
        columns = (column.values(start, end) for column in self._columns)
        return [Listed(*row) for row in zip(*columns, strict=True)]

    @property
    def _columns(self) -> tuple[Any, ...]:
        return self.files, self.labels, self.parts, self.groups, self.times


@dataclass(frozen=True)
class Listing:
    """What lies below a root. A class folder without pictures is among the ignored, with a slash at its end."""

    root: Path
    pictures: Sequence[Listed]
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # files that a listing names and that are not there
    file: Path | None = None  # the listing, where one says which pictures there are
    shards: "Index | None" = None  # where the pictures lie, if that is not in files


def files_of(root: Path) -> Sequence[str]:
    """All of them, as paths relative to the root, hidden ones left out; empty folders as `name/`."""
    return Texts.of(_walk(root, "", (root.resolve(),)))


def read(root: Path, files: Sequence[str] | None = None) -> Listing:
    """`<class>/*` or `train|val|valid|validation|test/<class>/*`, below any number of single wrapping folders."""
    files = files_of(root) if files is None else files
    wrap = _wrapping(files)
    parts = _stated_parts(root, files, wrap)
    ignored: set[str] = set()
    labels_of_ignored: dict[str, str] = {}

    def pictures() -> Iterator[Listed]:
        for file in files:
            folders = file.removeprefix(wrap).split("/")[:-1] if file.startswith(wrap) else []
            part = parts.get(folders[0]) if folders else None
            depth = 0 if part is None else 1
            label = class_name(folders[depth]) if len(folders) > depth else None
            if label is not None and _is_picture(file):
                yield Listed(file, label, part)
                continue
            if not file.endswith("/"):
                ignored.add(file)  # no picture, or one that lies in no class folder
            if label is not None:
                labels_of_ignored[wrap + "/".join(folders[: depth + 1]) + "/"] = label

    listed = Pictures.of(pictures())
    empty = {folder for folder, label in labels_of_ignored.items() if label not in listed.labels.distinct}
    return Listing(root, listed, tuple(sorted(empty | ignored)))


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
        pictures=Pictures.joined(Pictures.of(one.pictures).below(begin) for begin, one in both),
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
    names: list[str] = []  # and nothing else of them: a folder may hold a million files
    folders: dict[str, Path | None] = {}  # where a link leads
    empty = True
    try:
        with os.scandir(root / below) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                empty = False
                if entry.is_dir():
                    folders[entry.name] = Path(entry.path).resolve() if entry.is_symlink() else None
                if entry.name in folders or entry.is_file():
                    names.append(entry.name)
    except OSError as error:
        raise SourceError(f"{root / below} cannot be read: {error.strerror}; make it readable or remove it") from None
    if below and empty:
        yield below
    for name in sorted(names):
        if name not in folders:
            yield below + name
        elif (leads := folders[name]) not in above:
            yield from _walk(root, f"{below}{name}/", (*above, leads or root / below / name))


def _wrapping(files: Iterable[str]) -> str:
    """The folders around all pictures, such as `flowers/`: each is the only one, and holds nothing but folders."""
    wrap = ""
    while True:
        tops: set[str] = set()
        for file in files:
            if not _is_picture(file) or not file.startswith(wrap) or not (depth := file.count("/", len(wrap))):
                continue
            tops.add(file[len(wrap) :].partition("/")[0])
            if len(tops) > 1 or depth == 1:
                return wrap
        if not tops or (top := tops.pop()).lower() in PARTS:
            return wrap
        wrap = f"{wrap}{top}/"


def _stated_parts(root: Path, files: Iterable[str], wrap: str) -> dict[str, Part]:
    """Folder -> part, where the top folders say parts and hold class folders; empty where they are classes.

    Pictures that lie in such a folder itself have no class: a test folder without labels, as competitions have it.
    """
    tops: dict[str, bool] = {}  # whether there are folders in it
    for file in files:
        if _is_picture(file) and file.startswith(wrap) and (depth := file.count("/", len(wrap))):
            top = file[len(wrap) :].partition("/")[0]
            tops[top] = tops.get(top, False) or depth > 1
    parts = {top: PARTS[top.lower()] for top in tops if top.lower() in PARTS}
    others = sorted(tops.keys() - parts.keys())
    if not any(tops[top] for top in parts):
        return {}
    if len(parts) > 1 and others:
        raise SourceError(
            f"{root} has {', '.join(sorted(parts))} beside {', '.join(others[:5])}; keep either folders of parts "
            "(train, val, test) with class folders in them, or class folders alone"
        )
    return {} if others else parts


def _is_picture(file: str) -> bool:
    return file.lower().endswith(PICTURES)
