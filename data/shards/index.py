"""Where every picture of a folder of shards lies, and what it shows: read from the tar files once.

Shards of this project bring it along: `index.json` names the shards, and beside each `NAME.tar` lies `NAME.tar.index`,
a line for each picture. Of others' it is made by reading them through, once, and kept below the home.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data import progress as progress_
from data import whole
from data.compact import Digests, Texts, chunks
from data.errors import ShardUnreadable, SourceError
from data.layout import Listing, Pictures, class_name
from data.progress import Progress
from data.shards.columns import Entries, Numbers
from data.shards.order import WINDOW
from data.shards.place import Place
from data.shards.read import Piece, Shards
from data.shards.sample import Entry, entries_of
from data.spec import Part

FORMAT = 1
INDEX, BESIDE = "index.json", ".index"
BEGUN = "begun.json"  # while they are written; holds what they are to be


class Shard(NamedTuple):
    name: str
    size: int  # bytes, of the tar file


@dataclass(frozen=True)
class Index:
    """N pictures, in the order of the shards and within them."""

    place: Place
    shards: tuple[Shard, ...]
    entries: Entries
    shard: np.ndarray  # (N,) int32, which one
    taken_out: Path  # folder for pictures that somebody wants as files
    mirror: bool = True  # False where a mirrored picture changes its class
    name: str | None = None  # of the data set that they were written from

    @property
    def listing(self) -> Listing:
        """As of a folder. A picture is called SHARD/MEMBER. Raises `SourceError` for two of one name."""
        some = self.entries
        pictures = Pictures(self._number.texts, some.labels, some.parts, some.groups, some.times)
        return Listing(self.place.folder, pictures, shards=self)

    @cached_property
    def _number(self) -> Numbers:
        """File of the listing -> which entry."""
        names, members = [shard.name for shard in self.shards], self.entries.names
        files = Texts[str].of(
            f"{names[which]}/{member}"
            for some in chunks(len(members))
            for which, member in zip(self.shard[some].tolist(), members.values(some.start, some.stop), strict=True)
        )
        try:
            return Numbers(files)
        except ValueError as error:
            shard = str(error).partition("/")[0]
            raise SourceError(f"shard {shard} holds two files called {str(error)!r}; write it again") from None

    def numbers(self, files: Sequence[str]) -> np.ndarray:
        """(M,) int64: which entries these are. They lie in the order of their numbers."""
        return self._number.of(files)

    def digested(self, files: Sequence[str]) -> tuple[Digests, np.ndarray]:
        """sha256 and bytes (int64) of each."""
        numbers = self.numbers(files)
        return self.entries.digests.taken(numbers), self.entries.sizes[numbers]

    def pieces(self, numbers: np.ndarray) -> list[Piece]:
        """Where these entries lie. Their shards are fetched if need be, in their order."""
        some, shards = self.entries, self.shard[numbers].tolist()
        paths = {which: str(self.place.file(self.shards[which].name)) for which in dict.fromkeys(shards)}
        told = (some.offsets[numbers].tolist(), some.sizes[numbers].tolist(), some.digests.taken(numbers))
        return [Piece(paths[which], *one) for which, *one in zip(shards, *told, strict=True)]

    def contents(self, numbers: np.ndarray) -> Iterator[bytes]:
        """Of these entries, in their order. A shard is opened once for those of it that come in a row, and may go when
        they are done. Raises `ShardUnreadable`."""
        turns = np.split(numbers, np.flatnonzero(np.diff(self.shard[numbers])) + 1) if len(numbers) else []
        for turn, own in enumerate(turns, start=1):
            self.place.soon([self.shards[self.shard[one[0]]].name for one in turns[turn : turn + WINDOW]])
            shards = Shards()
            try:
                with self.place.in_use():
                    for some in chunks(len(own)):
                        yield from map(shards.content, self.pieces(own[some]))
            finally:
                shards.close()

    def content(self, file: str) -> bytes:
        """Raises `ShardUnreadable`."""
        (content,) = self.contents(self.numbers([file]))
        return content

    def path(self, file: str) -> Path:
        """The picture as a file of this machine, by its digest; taken out of its shard if need be. A file that is not
        there where its shard is damaged."""
        entry = self.entries[int(self.numbers([file])[0])]
        to = self.taken_out / entry.digest[:2] / f"{entry.digest}{Path(entry.name).suffix.lower()}"
        if not to.exists():
            with suppress(ShardUnreadable):
                whole.write(to, self.content(file))
        return to


def is_there(folder: Path) -> bool:
    """Whether these are shards that this project wrote, or began to."""
    first = {INDEX: f"*.tar{BESIDE}", BEGUN: "*.tar*"}  # archives may lie beside an index.json of somebody else's
    return any((folder / one).is_file() and next(folder.glob(many), None) for one, many in first.items())


def name_at(folder: Path) -> str | None:
    """Of the data set that the shards of a folder were written from, where they say it."""
    try:
        return str(json.loads((folder / INDEX).read_bytes())["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def opened(place: Place, home: Path, *, progress: Progress = progress_.ignore) -> Index:
    """Raises `SourceError` with one sentence that names the shard which is missing, cut off or damaged."""
    there = place.sizes()
    if BEGUN in there:
        raise SourceError(f"the shards of {place.called} are not all written; give the command that wrote them again")
    said = _stated(place) if INDEX in there else {}
    names = [one["name"] for one in said["shards"]] if said else sorted(n for n in there if n.endswith(".tar"))
    if not names:
        raise SourceError(
            f"{place.called} holds no shard (*.tar); `trainserve data shards SOURCE --to DIR` writes them"
        )
    if missing := [name for name in names if name not in there]:
        raise SourceError(f"shard {missing[0]} is in {INDEX} of {place.called} and not there; copy or write it again")
    entries: list[Entries] = []
    for number, name in enumerate(names, start=1):
        some = _brought(place, name, there[name]) if said else _found(place, name, there[name], home)
        entries.append(Entries.of(some))
        progress("indexing", number, len(names))
    return Index(
        place,
        tuple(Shard(name, there[name]) for name in names),
        Entries.joined(entries),
        np.repeat(np.arange(len(names), dtype=np.int32), [len(some) for some in entries]),
        taken_out=home / "datasets" / "shards" / "pictures",
        mirror=bool(said.get("mirror", True)),
        name=str(said["name"]) if said.get("name") else None,
    )


def lines(entries: Iterable[Entry], *, size: int, plan: str = "", sha256: str | None = None) -> bytes:
    """What lies beside a shard of so many bytes. plan: what it was to hold."""
    head = {"format": FORMAT, "bytes": size, "plan": plan, **({"sha256": sha256} if sha256 else {})}
    return "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in (head, *entries)).encode("utf-8", "replace")


def head_of(raw: bytes) -> dict[str, Any]:
    """Of what lies beside a shard; empty where it cannot be read."""
    try:
        head = json.loads(raw.partition(b"\n")[0])
    except ValueError:
        return {}
    return head if isinstance(head, dict) else {}


def _stated(place: Place) -> dict[str, Any]:
    """What `index.json` says."""
    try:
        said = json.loads(place.content(INDEX))
        names = [one["name"] for one in said["shards"]]
        fine = said["format"] == FORMAT and all(isinstance(n, str) and n and "/" not in n for n in names)
    except (ValueError, KeyError, TypeError):
        fine = False
    if not fine:
        raise SourceError(f"{INDEX} of {place.called} cannot be understood; write the shards again, or remove it")
    return dict(said)


def _brought(place: Place, name: str, size: int) -> list[Entry]:
    try:
        raw = place.content(f"{name}{BESIDE}")
    except OSError:
        raise SourceError(f"{name}{BESIDE} is missing in {place.called}; copy or write it again") from None
    stated = head_of(raw).get("bytes")
    if stated != size:
        raise SourceError(f"shard {name} has {size:,} bytes, and {stated or 'no'} by its index; copy or write it again")
    return _parsed(raw, name, size)


def _found(place: Place, name: str, size: int, home: Path) -> list[Entry]:
    """By reading the shard, or as it was read before."""
    stamp = f"{size} {place.stamp(name)}"
    key = hashlib.sha256(f"{place.called}/{name}".encode()).hexdigest()[:24]
    kept = home / "datasets" / "shards" / f"{key}{BESIDE}"
    try:
        raw = kept.read_bytes()
        if head_of(raw).get("plan") == stamp:
            return _parsed(raw, name, size)
    except OSError:
        pass
    with place.in_use():
        entries = list(entries_of(place.file(name), name))
    whole.write(kept, lines(entries, size=size, plan=stamp))
    return entries


def _lines_of(raw: bytes) -> list[str]:
    """Texts may hold what `splitlines` splits at."""
    return raw.decode("utf-8", "replace").removesuffix("\n").split("\n")


def _parsed(raw: bytes, name: str, size: int) -> list[Entry]:
    found = []
    for number, line in enumerate(_lines_of(raw)[1:], start=2):
        try:
            member, offset, length, digest, label, part, group, time = json.loads(line)
            texts = [one for one in (group, time) if one is not None]
            if not all(isinstance(one, str) for one in (member, digest, label, *texts)):
                raise ValueError
            if not (0 < offset <= offset + length <= size and len(bytes.fromhex(digest)) == 32):
                raise ValueError
            found.append(
                Entry(member, int(offset), int(length), digest, class_name(label), part and Part(part), group, time)
            )
        except (ValueError, TypeError):
            raise SourceError(f"line {number} of {name}{BESIDE} cannot be understood; write the shard again") from None
    return found
