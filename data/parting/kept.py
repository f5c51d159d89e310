"""What was decided of single contents, kept: JSON with a line for each, `"<sha256>": "train",`, a few of which are in
memory at a time, for a million of them are 80 MB of text and four times that as a dictionary."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import whole
from data.compact import CHUNK, DIGEST_BYTES, Digests
from data.parting.pool import LEFT_OPEN, STRONGEST, coded, damaged
from data.spec import Part

_LINE = re.compile(rb'"([0-9a-f]{64})": "([a-z]+)",?\n?')
_CODES = {part.encode(): STRONGEST.index(part) for part in Part}


@dataclass(frozen=True)
class Kept:
    """Contents and the parts that they were given."""

    digests: Digests  # (K,)
    parts: np.ndarray  # (K,) int8, places in `STRONGEST`

    def of(self, digests: Digests) -> np.ndarray:
        """(N,) int8: the parts of these contents; `LEFT_OPEN` of those that nothing is known of."""
        both, num = _together(self.digests, digests), len(self.digests)
        parts = np.full(int(both.max(initial=-1)) + 1, LEFT_OPEN, np.int8)
        parts[both[:num]] = self.parts
        found: np.ndarray = parts[both[num:]]
        return found

    def updated(self, digests: Digests, parts: np.ndarray) -> "Kept":
        """With these beside or instead, in the order of the digests."""
        both, num = _together(self.digests, digests), len(self.digests)
        _, first = np.unique(both, return_index=True)
        found = np.full(len(first), LEFT_OPEN, np.int8)
        found[both[:num]] = self.parts
        found[both[num:]] = parts
        return Kept(Digests(np.concatenate([self.digests.raw, digests.raw])[first]), found)


def read(file: Path) -> Kept:
    """Nothing where there is no such file. Raises `DataRefused` for one that is damaged."""
    if not file.exists():
        return Kept(Digests.of(()), np.zeros(0, np.int8))
    try:
        return _read(file) or _any_json(file)
    except (OSError, ValueError, TypeError, AttributeError):
        raise damaged(file) from None


def write(file: Path, kept: Kept) -> None:
    with whole.file(file) as out:
        for piece in _text(kept):
            out.write(piece.encode())


def _text(kept: Kept) -> Iterator[str]:
    yield "{"
    for start in range(0, len(kept.parts), CHUNK):
        digests = kept.digests.values(start, min(start + CHUNK, len(kept.parts)))
        names = (STRONGEST[code] for code in kept.parts[start : start + CHUNK].tolist())
        lines = (f'"{digest}": "{name}"' for digest, name in zip(digests, names, strict=True))
        yield ("," if start else "") + "\n" + ",\n".join(lines)
    yield "\n}" if len(kept.parts) else "}"


def _read(file: Path) -> Kept | None:
    """None where it is written otherwise, as by another hand."""
    raw, parts = bytearray(), bytearray()
    with file.open("rb") as lines:
        for line in lines:
            if said := _LINE.fullmatch(line):
                raw += bytes.fromhex(said[1].decode())
                parts.append(_CODES[said[2]] if said[2] in _CODES else len(_CODES))
            elif line.strip() not in (b"{", b"}", b"{}"):
                return None
        ended = line.strip() in (b"}", b"{}") if parts or raw else False
    if not ended or len(_CODES) in parts:
        return None
    return Kept(Digests(np.frombuffer(raw, np.uint8).reshape(-1, DIGEST_BYTES)), np.frombuffer(parts, np.int8))


def _any_json(file: Path) -> Kept:
    said = {digest: Part(part) for digest, part in json.loads(file.read_bytes()).items()}
    return Kept(Digests.of(said), coded(said.values()))


def _together(one: Digests, other: Digests) -> np.ndarray:
    return Digests(np.concatenate([one.raw, other.raw])).numbers
