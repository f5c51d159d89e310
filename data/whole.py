"""Whole or absent: files and folders that other processes read appear by a rename, under a lock."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time works on `path`; the kernel lets go of the lock when a process dies.

    The lock is a hidden sibling and stays: removing it would let two waiting processes in at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
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


def write(path: Path, content: bytes) -> Path:
    """A file with this content, or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        return part.replace(path)
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
    part = target.parent / f".{target.name}.part"
    if part.exists():
        shutil.rmtree(part)
    part.mkdir()
    try:
        yield part
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
