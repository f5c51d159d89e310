"""An archive in parts, as `split`, 7-Zip and servers with a limit cut it: flowers.tar.gz.aa .ab, .000 .001, .part1.

Naming one of them, or the archive that they would be together, means all. They are read one after the other, and never
joined on the disk.
"""

import bisect
import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO, NamedTuple

from data import digests, whole
from data.errors import SourceError

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
# Endings of other files beside an archive, which are parts only where they follow one.
OTHERS = frozenset(
    ("asc", "bak", "br", "bz", "gz", "log", "lz", "md", "new", "old", "sha", "sig", "tmp", "txt", "xz", "zip", "zst")
)
_PART = re.compile(r"(.+(?:\.tar\.gz|\.tgz|\.tar|\.zip))([._-](?:part[._-]?)?)(\d{1,9}|[a-z]{2,6})", re.IGNORECASE)
_SPAN = re.compile(r"(.+)\.z\d{2,}", re.IGNORECASE)


class Part(NamedTuple):
    """flowers.tar.gz.part-007: the whole's name, what stands between, and the number."""

    whole: str
    mark: str
    number: str

    @property
    def family(self) -> tuple[str, str, bool]:
        return self.whole, self.mark.lower(), self.number.isdecimal()

    @property
    def order(self) -> tuple[int, str]:
        return (int(self.number), "") if self.number.isdecimal() else (len(self.number), self.number)


def part_of(name: str) -> Part | None:
    """What a file name says of itself; None for an archive in one piece, and for what is none."""
    return None if name.lower().endswith(SUFFIXES) else _cut(name)


def _cut(name: str) -> Part | None:
    """The same, where f.tar.gz may be the 183rd part of f.tar."""
    said = _PART.fullmatch(name)
    return Part(said[1], said[2], said[3].lower()) if said else None


def is_first(name: str) -> bool:
    """Whether the file is a part with which an archive begins."""
    part = part_of(name)
    return part is not None and _is_first(part)


def whole_name(name: str) -> str:
    """What the parts are together: flowers.tar.gz of flowers.tar.gz.000."""
    part = part_of(name)
    return part.whole if part else name


def chosen(name: str, beside: Iterable[str]) -> tuple[str, ...]:
    """The names of all parts that `name` is one of, or is the whole of, in order; nothing where there are none.

    Raises `SourceError` for a gap, and for a number that is there twice.
    """
    found = {part: file for file in beside if (part := _cut(file)) and part.whole == whole_name(name)}
    named = part_of(name)
    families = {part.family for part in found} if named is None else {named.family}
    if named is None and len(families) > 1:
        families = {part.family for part in found if _is_first(part)}
    if len(families) > 1:
        raise SourceError(f"{name} is there in parts of several kinds; name the first of those that you mean")
    members = sorted((part for part in found if part.family in families), key=lambda part: part.order)
    run = _run(members)
    left = [part for part in members if part not in run and part.number not in OTHERS]
    if left:
        raise SourceError(_gap(found, run, left[0]))
    return tuple(found[part] for part in run)


def of(path: Path) -> tuple[Path, ...]:
    """The files that `path` means, in order: itself, or all parts. Raises `SourceError`."""
    _refuse_spans(path)
    if part_of(path.name) is None and path.exists():
        return (path,)
    try:
        beside = [file.name for file in path.parent.iterdir()]
    except (OSError, ValueError):  # whoever opens the file itself says why
        return (path,)
    return tuple(path.parent / name for name in chosen(path.name, beside)) or (path,)


def opened(path: Path) -> IO[bytes]:
    """The archive, wherever it is cut. Raises `SourceError` and `OSError`."""
    files = of(path)
    return path.open("rb") if files == (path,) else io.BufferedReader(Joined(files), 1 << 20)


def digest(path: Path, home: Path) -> str:
    """sha256 (hex) of the whole archive, remembered while no part changes."""
    files = of(path)
    if files == (path,):
        return digests.of_file(path, home)
    memory = digests.memory_of(files[0], home)
    states = [file.stat() for file in files]
    said = [[file.name, state.st_size, state.st_mtime_ns] for file, state in zip(files, states, strict=True)]
    try:
        known = json.loads(memory.read_bytes())
        if known["parts"] == said:
            return str(known["sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        pass
    with opened(path) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    whole.write(memory, json.dumps({"parts": said, "sha256": found}).encode())
    return found


class Joined(io.RawIOBase):
    """Files read as one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._ends = list(accumulate(file.stat().st_size for file in files))
        self._at = 0
        self._open: tuple[int, IO[bytes]] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        if self._at < 0:
            raise OSError("before the beginning")  # without a number: a damaged archive asks for it
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        number = bisect.bisect_right(self._ends, self._at)
        if number == len(self._files):
            return 0
        if self._open is None or self._open[0] != number:
            self._close_part()
            self._open = number, self._files[number].open("rb", buffering=0)
        file = self._open[1]
        file.seek(self._at - ([0, *self._ends])[number])
        read: int = file.readinto(buffer)  # type: ignore[attr-defined]
        self._at += read
        return read

    def close(self) -> None:
        self._close_part()
        super().close()

    def _close_part(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


def _is_first(part: Part) -> bool:
    return int(part.number) < 2 if part.number.isdecimal() else not part.number.strip("a")


def _run(members: Sequence[Part]) -> list[Part]:
    """Those that follow each other from the first on."""
    run: list[Part] = []
    for part in members:
        if _is_first(part) if not run else part.number in _next(run[-1].number):
            run.append(part)
    return run


def _next(number: str) -> tuple[str, ...]:
    """aa -> ab, part9 -> part10; and as `split` goes on when two places are used up: yz -> zaaa, 89 -> 9000."""
    last, end = ("9", "8") if number.isdecimal() else ("z", "y")
    if number.isdecimal():
        plain = str(int(number) + 1).zfill(len(number))
    else:
        kept = number.rstrip("z")
        plain = kept[:-1] + chr(ord(kept[-1]) + 1) + "a" * (len(number) - len(kept)) if kept else ""
    said = re.fullmatch(rf"({last}*){end}({last}+)", number)
    zero = "0" if number.isdecimal() else "a"
    return (plain, said[1] + last + zero * (len(said[2]) + 2)) if said else (plain,)


def _gap(found: dict[Part, str], run: Sequence[Part], after: Part) -> str:
    if not run:
        number = "a" * len(after.number) if not after.number.isdecimal() else "1".zfill(len(after.number))
        return f"{after.whole}{after.mark}{number} is missing before {found[after]}; put all parts into one folder"
    if run[-1].order == after.order:
        return f"{found[run[-1]]} and {found[after]} are the same part; leave one of the two"
    missing = f"{after.whole}{after.mark}{_next(run[-1].number)[0]}"
    return f"{missing} is missing between {found[run[-1]]} and {found[after]}; put all parts into one folder"


def _refuse_spans(path: Path) -> None:
    """Zip's own way, in which the parts are no plain cuts of one file."""
    said = _SPAN.fullmatch(path.name)
    if said is None and not (path.suffix.lower() == ".zip" and path.with_suffix(".z01").exists()):
        return
    stem = said[1] if said else path.stem
    raise SourceError(
        f"{path} is one of the spans of a split zip (.z01, .z02, ..., .zip), which are not read; "
        f"run `zip -s 0 {stem}.zip --out {stem}-whole.zip` and name that"
    )
