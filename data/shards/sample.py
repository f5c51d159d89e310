"""The samples of a tar file in the WebDataset layout: what lies together under one name up to its first dot.

A sample is a picture (NAME.jpg; or NAME.left.jpg, if that is all there is) and its class, as `NAME.cls` or as `label`
in `NAME.json`; the json may tell split, group and time too. Without a split, a shard's own name may say one.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from data import times
from data.errors import SourceError
from data.layout import PARTS, PICTURES, class_name
from data.shards.tar import Member, Read, members
from data.spec import Part

LONGEST_LABEL = 200  # characters
NOTE = 1 << 16  # bytes, of a class or a json
LABELS = ("label", "class", "cls", "class_name")  # as a sample's json may call its class


class Entry(NamedTuple):
    """A picture in a shard."""

    name: str  # of the member
    offset: int
    size: int
    digest: str  # sha256 of its bytes, hex
    label: str
    part: Part | None = None
    group: str | None = None
    time: str | None = None


def entries_of(file: Path, called: str) -> Iterator[Entry]:
    """Those of a tar file that brings no index. Reads all of it."""
    total = file.stat().st_size
    with file.open("rb", buffering=1 << 20) as opened:

        def read(size: int, offset: int) -> bytes:
            opened.seek(offset)
            return opened.read(size)

        stated = _part_of(called)
        for key, some in groupby(members(read, total, called=called), key=lambda member: _key(member.name)):
            sample = {member.name[len(key) + 1 :].lower(): member for member in some}
            pictures = [suffix for suffix in sample if f".{suffix.rpartition('.')[2]}" in PICTURES]
            if not pictures:
                continue
            member = sample[_one(pictures, f"{called}/{key}")]
            said = _said(sample, read, f"{called}/{key}")
            said.setdefault("part", stated)
            digest = hashlib.sha256(read(member.size, member.offset)).hexdigest()
            yield Entry(member.name, member.offset, member.size, digest, **said)


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _one(pictures: Sequence[str], sample: str) -> str:
    """Of the suffixes of a sample's pictures that of the picture itself: NAME.jpg before NAME.mask.png."""
    plain = [suffix for suffix in pictures if "." not in suffix] or pictures
    if len(plain) > 1:
        said = " and ".join(f".{suffix}" for suffix in plain)
        raise SourceError(f"sample {sample} has {len(plain)} pictures, {said}; leave one of them, or call it NAME.jpg")
    return plain[0]


def _part_of(called: str) -> Part | None:
    """imagenet-train-000012.tar is trained on."""
    words = {word for word in _words(called.lower()) if word in PARTS}
    return PARTS[words.pop()] if len(words) == 1 else None


def _words(text: str) -> Sequence[str]:
    return "".join(letter if letter.isalpha() else " " for letter in text).split()


def _said(sample: dict[str, Member], read: Read, called: str) -> dict[str, Any]:
    """label, and part, group and time where the sample's json has them."""
    said: dict[str, Any] = {}
    texts = {suffix: _text(sample[suffix], read, called) for suffix in ("json", "cls") if suffix in sample}
    if "json" in texts:
        try:
            told = json.loads(texts["json"])
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise SourceError(f"the json of sample {called} is no json object; mend it, or leave it out")
        label = next((told[name] for name in LABELS if isinstance(told.get(name), str | int)), None)
        said = {"label": label, **_more(told, called)}
    if said.get("label") is None:
        said["label"] = texts.get("cls")
    label = class_name(str(said["label"] if said["label"] is not None else "").strip())
    if not 0 < len(label) <= LONGEST_LABEL:
        raise SourceError(f"sample {called} has no class; give it a .cls, or a .json with a label")
    return said | {"label": label}


def _more(told: dict[str, Any], called: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if told.get("split") is not None:
        if str(told["split"]).lower() not in PARTS:
            raise SourceError(f"sample {called} is of split {told['split']!r}; use train, val or test")
        found["part"] = PARTS[str(told["split"]).lower()]
    if told.get("group") is not None:
        found["group"] = class_name(str(told["group"]))
    if told.get("time") is not None:
        try:
            found["time"] = times.at(str(told["time"]))
        except ValueError:
            raise SourceError(f"sample {called} has time {told['time']!r}; write ISO 8601") from None
    return found


def _text(member: Member, read: Read, called: str) -> str:
    if member.size > NOTE:
        raise SourceError(f"{member.name} of sample {called} has {member.size:,} bytes, too many for a class; mend it")
    return bytes(read(member.size, member.offset)).decode("utf-8", "replace")
