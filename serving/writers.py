"""Who else could have written a file: what the service reads decides what it answers, and to whom."""

import grp
import os
import pwd
import stat
from pathlib import Path

ANYONE = "*"


def trusted(named: str | None) -> frozenset[int] | None:
    """User numbers: root, this process's, and those of `named` (names or numbers, with commas); None: anyone.

    Raises `ValueError` for a name that no user has.
    """
    if named == ANYONE:
        return None
    return frozenset({0, os.geteuid(), *(_number(name) for name in (named or "").split(",") if name)})


def stranger(info: os.stat_result, trusted: frozenset[int]) -> str | None:
    """How somebody else could write it: the end of a sentence. None: nobody else can."""
    if info.st_uid not in trusted:
        return f"belongs to user {info.st_uid}"
    if stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX:
        return None  # as /tmp: others add to it, and cannot replace what is there
    if info.st_mode & stat.S_IWOTH:
        return "can be written by every user"
    if info.st_mode & stat.S_IWGRP and not _own_group(info.st_gid, trusted):
        return f"can be written by group {info.st_gid}"
    return None


def upwards(path: Path, top: Path) -> list[Path]:
    """`path` and the folders above it, up to `top`."""
    return [path, *(folder for folder in path.parents if folder == top or top in folder.parents)]


def _own_group(group: int, trusted: frozenset[int]) -> bool:
    """A group that is one user's alone, as most Linux systems make it, which is why their umask may be 002.

    By the convention of pam_umask's `usergroups`: it has the user's name, and nobody else was put into it. Members
    cannot be counted instead: a directory service need not list the users whose first group it is.
    """
    try:
        entry = grp.getgrgid(group)
        user = pwd.getpwnam(entry.gr_name)
    except KeyError:
        return False
    return user.pw_uid in trusted and user.pw_gid == group and set(entry.gr_mem) <= {entry.gr_name}


def _number(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {name!r} on this machine") from None
