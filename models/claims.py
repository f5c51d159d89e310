"""Folders that one process works in at a time. The kernel lets go of a claim when the process dies. No torch here."""

import fcntl
import json
import os
from pathlib import Path

_claimed: dict[Path, int] = {}
"""Folders of this process and their open lock files."""


def claim(path: Path) -> bool:
    """Take the folder for this process; False if another one has it."""
    path = path.resolve()
    if path in _claimed:
        return True
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    if not taken(descriptor):
        return False
    _claimed[path] = descriptor
    return True


def taken(descriptor: int) -> bool:
    """Lock the open file until it is closed, and write down who did; closed if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid()}).encode(), 0)  # for people; the lock is what counts
    return True


def worked_on(path: Path) -> bool:
    """By this process or another one."""
    if path.resolve() in _claimed:
        return True
    if claim(path):
        release(path)
        return False
    return True


def release(path: Path) -> None:
    """Let go of what `claim` took."""
    os.close(_claimed.pop(path.resolve()))


def moved(part: Path, to: Path) -> None:
    """A claimed folder that has been renamed stays claimed."""
    _claimed[to.resolve()] = _claimed.pop(part.resolve())
