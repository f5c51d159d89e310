"""Many files of a store or a server -> a folder of ours that has those and no others: only what is missing or changed
is fetched, and a try that was interrupted is gone on with."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

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
    for name in names:
        if (wrong := _wrong(name)) is not None:
            raise SourceError(f"{where} has {name!r}, {wrong}; give it another name there")
    for name in names:
        above = name.rpartition("/")[0]
        while above:
            if above in names:
                raise SourceError(f"{where} has {above!r} as a file and as a folder; give one of them another name")
            above = above.rpartition("/")[0]


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


def is_whole(folder: Path) -> bool:
    """Whether it was all fetched once, and nothing was begun since."""
    return _read(folder)[1]


def known(folder: Path) -> dict[str, str]:
    """The version of each file that is there as it was fetched."""
    found = {}
    for name, (version, size) in _read(folder)[0].items():
        try:
            if (folder / name).stat().st_size == size:
                found[name] = version
        except OSError:
            continue
    return found


def update(
    folder: Path, names: Sequence[str], bring: Bring, *, progress: Progress, beside: Collection[str] = ()
) -> None:
    """The files `names` in `folder`, and of others only those `beside` them. Hold `whole.locked(folder)`.

    Raises `SourceError`; then the next call goes on from there.
    """
    try:
        there = known(folder)
        lines = [{"name": name, "version": version, "size": _size(folder, name)} for name, version in there.items()]
        whole.write(folder / LOG, b"".join(map(_line, lines)))  # which does not say that it is whole
        prune(folder, {*names, *beside})
        with (folder / LOG).open("ab", buffering=0) as log, ThreadPoolExecutor(WORKERS) as pool:
            one_by_one = (
                one
                for i in range(0, len(names), AHEAD)
                for one in pool.map(partial(_bring, folder, there, bring, log.write), names[i : i + AHEAD])
            )
            try:
                for n, _ in enumerate(one_by_one, start=1):
                    if n % TOLD == 0 or n == len(names):
                        progress("fetching pictures", n, len(names))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            log.write(_line({"whole": True}))
    except OSError as error:
        raise DownloadError(f"{folder} cannot be written: {error.strerror}; make room or rights for it") from None


def _bring(folder: Path, there: dict[str, str], bring: Bring, write: Callable[[bytes], object], name: str) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        version = bring(name, there.get(name), target)
    except KeyError:  # it went meanwhile, or a listing names what never was
        target.unlink(missing_ok=True)
        return
    if version is not None and version != there.get(name):
        write(_line({"name": name, "version": version, "size": _size(folder, name)}))


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


def _line(entry: dict[str, object]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _read(folder: Path) -> tuple[dict[str, tuple[str, int]], bool]:
    """Version and size of each file, and whether these are all."""
    found: dict[str, tuple[str, int]] = {}
    is_whole = False
    try:
        lines = (folder / LOG).read_bytes().splitlines()
    except OSError:
        return {}, False
    for line in lines:
        try:
            entry = json.loads(line)
            is_whole = entry.get("whole", False)
            if not is_whole:
                found[entry["name"]] = (entry["version"], entry["size"])
        except (ValueError, KeyError, AttributeError):  # torn by a kill
            continue
    return found, is_whole
