"""Bytes of pictures out of tar files."""

import hashlib
import os
from collections import OrderedDict
from typing import NamedTuple

from data.errors import ShardUnreadable

OPEN = 32  # shards


class Piece(NamedTuple):
    """A picture in a file."""

    shard: str  # path of the tar file
    offset: int
    size: int
    digest: str  # sha256 of its bytes, hex


class Shards:
    """Tar files, opened once; what is read of them lies where the index says."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()

    def content(self, piece: Piece) -> bytes:
        """Raises `ShardUnreadable` where it cannot be read, or is not what the index says."""
        try:
            content = os.pread(self._file(piece.shard), piece.size, piece.offset)
            while len(content) < piece.size and (more := os.pread(
                self._file(piece.shard), piece.size - len(content), piece.offset + len(content)
            )):  # fmt: skip
                content += more
        except OSError as error:
            raise ShardUnreadable(f"shard {piece.shard} cannot be read ({error.strerror}); put it back") from None
        if len(content) < piece.size:
            raise ShardUnreadable(f"shard {piece.shard} is cut off; copy or write it again")
        if hashlib.sha256(content).hexdigest() != piece.digest:
            raise ShardUnreadable(
                f"shard {piece.shard} has other bytes at {piece.offset:,} than its index says; copy or write it again"
            )
        return content

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _file(self, path: str) -> int:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        if len(self._open) >= OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._open[path]
