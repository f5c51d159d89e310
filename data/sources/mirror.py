"""Many files of a store or a server -> a folder of ours that has those and no others: only what is missing or changed
is fetched, and a try that was interrupted is gone on with."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from data import whole
from data.archive import is_hidden
from data.errors import DownloadError, SourceError
from data.progress import Progress
from data.sources.bucket import WORKERS

LOG = ".fetched.jsonl"  # hidden, and so no picture
TOLD, AHEAD = 16, 8192  # files: progress is told after so many, and so many wait for a thread
MOST_FILES, MOST_BYTES = 1_000_000, 200 * 2**30

Bring = Callable[[str, str | None, Path], str | None]
"""(name, the version that is there, where it goes) -> the version that is there now. Raises `KeyError` where there is
no such file any more, else `SourceError` and `OSError`."""


def refuse_names(names: Collection[str], where: str) -> None:
    """Raises `SourceError` for a name that leads elsewhere, or that a disk cannot hold."""
    files = {*names}
    for name in names:
        if (wrong := _wrong(name)) is not None:
            raise SourceError(f"{where} has {name!r}, {wrong}; give it another name there")
    for name in names:
        for above in _above(name):
            if above in files:
                raise SourceError(f"{where} has {above!r} as a file and as a folder; give one of them another name")


def refuse_size(num: int, size: int, folder: Path, where: str) -> None:
    """Raises `SourceError` for what is too much, or does not go onto the disk. `size`: bytes still to be fetched."""
    if num > MOST_FILES or size > MOST_BYTES:
        raise SourceError(
            f"{where} has {num:,} files of {size:,} bytes, more than {MOST_FILES:,} or {MOST_BYTES:,}; "
            "fetch it yourself and name the folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if size > (free := shutil.disk_usage(folder).free):
        raise SourceError(f"{where} has {size:,} bytes to be fetched, and {folder} has room for {free:,}; make room")


def is_whole(folder: Path, of: str | None = None) -> bool:
    """Whether it was all fetched once, and nothing was begun since; if `of` is given, whether all of that was."""
    mark = _read(folder)[1]
    return mark is not None and of in (None, mark.get("of", of))


def known(folder: Path) -> dict[str, str]:
    """The version of each file that is there as it was fetched."""
    return _present(folder, _read(folder)[0])


def update(
    folder: Path,
    names: Sequence[str],
    bring: Bring,
    *,
    progress: Progress,
    beside: Collection[str] = (),
    of: str = "",
    where: str = "the source",
) -> None:
    """The files `names` in `folder`, and of others only those `beside` them. Hold `whole.locked(folder)`. `of` is what
    `is_whole` is asked with, `where` what sentences call it.

    Raises `SourceError`; then the next call goes on from there. What is there already stays until all has come.
    """
    try:
        entries, mark = _read(folder)
        made_way = _make_way(folder, entries, names)
        there = _present(folder, entries)
        lines = [{"name": name, "version": version, "size": _size(folder, name)} for name, version in there.items()]
        whole.write(folder / LOG, b"".join(map(_line, lines)))  # which does not say that it is whole
        with (folder / LOG).open("ab", buffering=0) as log:
            doing = _Update(folder, there, bring, log.write, where)
            try:
                gone = doing.all(names, progress)
            except SourceError:
                if mark is not None and not made_way and not doing.changed:
                    log.write(_line(mark))
                raise
            prune(folder, {*names, *beside} - gone)
            log.write(_line({"whole": True, "of": of}))
    except OSError as error:
        raise DownloadError(f"{folder} cannot be written: {error.strerror}; make room or rights for it") from None


class _Update:
    """One under way, by several threads."""

    def __init__(
        self, folder: Path, there: Mapping[str, str], bring: Bring, write: Callable[[bytes], object], where: str
    ) -> None:
        self.folder, self.there, self.bring, self.write, self.where = folder, there, bring, write, where
        self.lock, self.bytes, self.changed = Lock(), 0, False

    def all(self, names: Sequence[str], progress: Progress) -> set[str]:
        """-> those that are not there: they went meanwhile, or a listing names what never was. Raises `SourceError` if
        these are all of them."""
        gone = set()
        with ThreadPoolExecutor(WORKERS) as pool:
            came = (one for i in range(0, len(names), AHEAD) for one in pool.map(self._came, names[i : i + AHEAD]))
            try:
                for n, (name, it_came) in enumerate(zip(names, came, strict=True), start=1):
                    if not it_came:
                        gone.add(name)
                    if n % TOLD == 0 or n == len(names):
                        progress("fetching pictures", n, len(names))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if names and len(gone) == len(names):
            raise SourceError(
                f"none of the {len(names):,} files of {self.where} is there, such as {names[0]!r}; check the addresses"
            )
        return gone

    def _came(self, name: str) -> bool:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        before = _identity(target)
        try:
            version = self.bring(name, self.there.get(name), target)
        except KeyError:
            return False
        if _identity(target) != before:  # its version may be as before: there are servers that call every one the same
            self.changed = True
        size = _size(self.folder, name)
        if version is not None and version != self.there.get(name):
            self.write(_line({"name": name, "version": version, "size": size}))
        self._weigh(size)
        return True

    def _weigh(self, size: int) -> None:
        """A server does not say before how much all of it is."""
        with self.lock:
            self.bytes += size
            too_much = self.bytes > MOST_BYTES
        if too_much:
            raise SourceError(f"{self.where} has more than {MOST_BYTES:,} bytes; fetch it yourself and name the folder")


def _make_way(folder: Path, before: Collection[str], names: Collection[str]) -> bool:
    """Files go where folders are to be, folders where files are, and links, which lead elsewhere; whether any did."""
    files, folders = {*names}, {above for name in names for above in _above(name)}
    links = [folder / above for above in folders if (folder / above).is_symlink()]
    for link in links:
        link.unlink()
    gone = [name for name in before if name in folders or any(above in files for above in _above(name))]
    for name in gone:
        (folder / name).unlink(missing_ok=True)
        for above in _above(name):
            with suppress(OSError):  # others are in it
                (folder / above).rmdir()
    return bool(links or gone)


def _above(name: str) -> Iterator[str]:
    """The folders that it is in: a/b, a of a/b/c.png."""
    while name := name.rpartition("/")[0]:
        yield name


def _wrong(name: str) -> str | None:
    pieces = name.split("/")
    if name.startswith("/") or pieces[0].endswith(":") or ".." in pieces:
        return "which leads out of the folder"
    if "" in pieces or "." in pieces:
        return "in which a folder has no name"
    if "\\" in name or not name.isprintable():
        return "which has a character that no file name should have"
    if name == LOG or name.endswith(".part"):
        return "as which this project keeps what it has not fetched wholly"
    if max(len(piece.encode("utf-8", "replace")) for piece in pieces) > 240:  # of 255, and `.part` comes behind
        return "which is longer than a file name may be"
    return None


def prune(folder: Path, names: Collection[str]) -> None:
    """What is not among them any more, and folders that nothing is left in."""
    for place, folders, files in os.walk(folder, topdown=False):
        for file in files:
            path = Path(place, file)
            name = path.relative_to(folder).as_posix()
            if name not in names and not is_hidden(file) and not _is_part_of(name, names):
                path.unlink()
        for sub in folders:
            path = Path(place, sub)
            if path.is_symlink():  # not ours: followed, it would be a folder
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()


def _is_part_of(name: str, names: Collection[str]) -> bool:
    return name.removesuffix(".origin.json").removesuffix(".part") in names


def _size(folder: Path, name: str) -> int:
    return (folder / name).stat().st_size


def _identity(file: Path) -> tuple[int, int] | None:
    """Another one once the file is written anew; none where there is no file."""
    state = file.stat() if file.exists() else None
    return state and (state.st_ino, state.st_mtime_ns)


def _line(entry: dict[str, object]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _present(folder: Path, entries: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """The versions of those that have their size."""
    found = {}
    for name, (version, size) in entries.items():
        with suppress(OSError):
            if _size(folder, name) == size:
                found[name] = version
    return found


def _read(folder: Path) -> tuple[dict[str, tuple[str, int]], dict[str, Any] | None]:
    """Version and size of each file; and, where these are all, the line that says so."""
    found: dict[str, tuple[str, int]] = {}
    mark = None
    try:
        lines = (folder / LOG).read_bytes().splitlines()
    except OSError:
        return {}, None
    for line in lines:
        try:
            entry = json.loads(line)
            mark = entry if entry.get("whole", False) else None
            if mark is None:
                found[entry["name"]] = (entry["version"], entry["size"])
        except (ValueError, KeyError, AttributeError):  # torn by a kill
            continue
    return found, mark
