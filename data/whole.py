"""Whole or absent: files and folders that other processes read appear by a rename, under a lock."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[int]:
    """One process at a time works on `path`; the kernel lets go of the lock when a process dies, and all those that
    inherited the descriptor. Raises `BlockingIOError` where another one has it and there is no time to `wait`.

    The lock is a hidden sibling and stays: removing it would let two waiting processes in at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield descriptor
    finally:
        os.close(descriptor)


def held(path: Path) -> bool:
    """Whether somebody has it `locked` at this moment."""
    try:
        descriptor = os.open(path.parent / f".{path.name}.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write(path: Path, content: bytes, *, within: Path | None = None) -> Path:
    """A file with this content, or what was there before."""
    with file(path, within=within) as part:
        part.write(content)
    return path


@contextmanager
def file(path: Path, *, within: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to fill; it becomes `path` if the block ends well, which is as it was before otherwise. It is made in the
    folder `within`, on the same disk, where what a killed process leaves does no harm; by default beside `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=within or path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill; it becomes `target` if the block ends well, and is gone otherwise.

    Hold `locked(target)` around it. What a killed process left of an earlier try is removed first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    if part.exists():
        shutil.rmtree(part)
    part.mkdir()
    try:
        yield part
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextmanager
def resumable(target: Path, *, anew: bool = False) -> Iterator[Path]:
    """A folder to fill, with what an earlier try left in it, unless it is begun `anew`; it becomes `target` if the
    block ends well, and stays for the next try otherwise.

    Hold `locked(target)` around it.
    """
    part = part_of(target)
    if anew:
        shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.rename(target)
    finally:
        with suppress(OSError):
            part.rmdir()  # where nothing came of it


def part_of(target: Path) -> Path:
    """Where `target` is made."""
    return target.parent / f".{target.name}.part"


def target_of(part: Path) -> Path:
    """What is made there: the other way round."""
    return part.with_name(part.name.removeprefix(".").removesuffix(".part"))
