"""The members of a plain tar file, from its headers alone: POSIX ustar, with long names as pax or GNU tar write them.

Hostile until checked: every size is held against the file's, every header against its own checksum, and what is neither
a file nor a folder (links, devices, sparse files) is refused, as a name is that leaves its folder. Names lead nowhere
all the same: nothing is ever written under one of them.
"""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from data.errors import SourceError

BLOCK = 512  # bytes: of a header, and of what contents are filled up to
LONGEST_NAME = 4096  # bytes, as of a path
NOTE = 1 << 16  # bytes, of a long name or of a pax header
FILLED = 1 << 20  # bytes, that may follow the end mark: writers fill their last record up with zeros

FILE, FOLDER, LONG_NAME, PAX, PAX_FOR_ALL = b"0", b"5", b"L", b"x", b"g"
KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}

Read = Callable[[int, int], bytes]
"""(bytes, offset) -> so many bytes from there, fewer where the file ends."""


class Member(NamedTuple):
    """A file of the archive."""

    name: str
    offset: int  # of its content
    size: int  # bytes


def members(read: Read, total: int, *, called: str) -> Iterator[Member]:
    """The files of an archive of `total` bytes, in its order; `called`: what the archive is called in a sentence.

    Raises `SourceError` with one sentence for an archive that ends early, or without its end mark, for one that is
    damaged or goes on behind the mark, as where a disk left zeros, and for what no shard holds.
    """
    at, name, size = 0, None, None
    while at < total:
        header = read(BLOCK, at)
        if not header.strip(b"\0") and len(header) == BLOCK:
            _require_nothing(read, at, total, called)
            return  # the end mark
        kind, length = _checked(header, at, called)
        start = at + BLOCK
        if kind in (LONG_NAME, PAX):
            note = _note(read, start, length, called)
            name, size = (note.rstrip(b"\0"), size) if kind == LONG_NAME else _pax(note, name, size, called)
        elif kind == FILE:
            length = length if size is None else size
            _require_whole(start + length, total, called)
            yield Member(_safe(_name(header) if name is None else name, called), start, length)
            name = size = None
        elif kind in (FOLDER, PAX_FOR_ALL):
            name = size = None
        else:
            what = KINDS.get(kind, f"an entry of type {kind!r}")
            raise SourceError(f"shard {called} holds {what} at byte {at:,}; write it again with files alone")
        at = start + -(-length // BLOCK) * BLOCK
    raise _cut(called, total)


def packed(name: str, content: bytes) -> bytes:
    """A member as ustar writes it: header, content, and zeros up to the next block. Equal for equal arguments."""
    said = name.encode()
    if not 0 < len(said) <= 100:
        raise ValueError(f"{name!r} is no name for a member of a shard: 1 to 100 bytes")
    fields = [said.ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % len(content)]
    header = b"".join([*fields, b"00000000000\0", b" " * 8, FILE, b"\0" * 100, b"ustar\00000"]).ljust(BLOCK, b"\0")
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return header + content + b"\0" * (-len(content) % BLOCK)


END = b"\0" * 2 * BLOCK


def _checked(header: bytes, at: int, called: str) -> tuple[bytes, int]:
    """Kind and size, of a header whose sum is right."""
    if len(header) < BLOCK:
        raise _cut(called, at + len(header))
    stated = _number(header[148:156], at, called)
    if stated != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
        raise _damaged(called, at)
    kind = header[156:157]
    return (FILE if kind in (b"\0", b"7") else kind), _number(header[124:136], at, called)


def _number(field: bytes, at: int, called: str) -> int:
    """Octal digits, or, where the first bit is set, a binary number."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        number = int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise _damaged(called, at) from None
    if number < 0:
        raise _damaged(called, at)
    return number


def _name(header: bytes) -> bytes:
    name, prefix = (field.partition(b"\0")[0] for field in (header[:100], header[345:500]))
    return prefix + b"/" + name if prefix and header[257:262] == b"ustar" and header[262:263] == b"\0" else name


def _note(read: Read, start: int, length: int, called: str) -> bytes:
    if length > NOTE:
        raise SourceError(f"shard {called} has a name or a header of {length:,} bytes; write it again with short names")
    note = read(length, start)
    if len(note) < length:
        raise _cut(called, start + len(note))
    return note


def _pax(note: bytes, name: bytes | None, size: int | None, called: str) -> tuple[bytes | None, int | None]:
    """Of `LENGTH key=value\\n` lines those that matter."""
    while note:
        length, _, _ = note.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(note):
            raise SourceError(f"shard {called} has a damaged pax header; write it again")
        line, note = note[len(length) + 1 : int(length) - 1], note[int(length) :]
        key, _, value = line.partition(b"=")
        if key == b"path":
            name = value
        elif key == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
        elif key.startswith(b"GNU.sparse"):
            raise SourceError(f"shard {called} holds a sparse file; write it again with files alone")
    return name, size


def _safe(name: bytes, called: str) -> str:
    text = os.fsdecode(name).removeprefix("./")
    if not text or len(name) > LONGEST_NAME or text.startswith("/") or ".." in text.split("/") or "\0" in text:
        raise SourceError(f"shard {called} holds {text[:60]!r}, which is no name of a file below a folder; rename it")
    return text


def _require_whole(end: int, total: int, called: str) -> None:
    if end > total:
        raise _cut(called, total)


def _require_nothing(read: Read, at: int, total: int, called: str) -> None:
    """Behind the end mark."""
    left = total - at
    if left > FILLED or read(left, at).strip(b"\0"):
        raise SourceError(
            f"shard {called} ends at byte {at:,}, and {left:,} bytes come after that; copy or write it again"
        )


def _cut(called: str, total: int) -> SourceError:
    return SourceError(f"shard {called} is cut off at byte {total:,}; copy or write it again")


def _damaged(called: str, at: int) -> SourceError:
    return SourceError(f"shard {called} is damaged at byte {at:,}, or no plain tar file; copy or write it again")
