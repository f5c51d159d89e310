"""Pictures -> shards: which goes where is a function of the pictures alone, so that a writer that was killed goes on.

Their order is that of their digests, which is as good as chance: every shard is a sample of the whole, with all classes
in it. A shard is whole or absent, and its index comes after it; `index.json` comes last, so a folder without it is not
finished.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import progress as progress_
from data import whole
from data.errors import InputError
from data.layout import PICTURES
from data.progress import Progress
from data.shards.index import BEGUN, BESIDE, FORMAT, INDEX, head_of, lines
from data.shards.sample import Entry
from data.shards.tar import BLOCK, END, packed
from data.shards.target import Folder, Target
from data.snapshot import Snapshot

MEGABYTES = 128  # of a shard; large enough that a disk or a bucket reads on, small enough to be fetched as a whole


def write(
    listed: Snapshot, to: Path | Target, *, megabytes: int = MEGABYTES, progress: Progress = progress_.ignore
) -> int:
    """Shards of all its pictures in the folder `to`, which is new, or holds what an earlier try left; how many.

    Raises `InputError` for a folder with anything else in it, and for a picture that changed since it was listed;
    `OSError` where there is no room.
    """
    target = Folder(to) if isinstance(to, Path) else to
    shards = planned(listed, megabytes * 1_000_000)
    plans = [plan_of(listed, rows) for rows in shards]
    whole_plan = hashlib.sha256(json.dumps([plans, listed.mirror]).encode()).hexdigest()
    with target.alone():
        there = target.sizes()
        finished = _finished(target, there, whole_plan)
        if finished and all(_written(target, there, name_of(which), plan) for which, plan in enumerate(plans)):
            target.remove(BEGUN)  # by a kill after all was done
            return len(shards)
        target.put(BEGUN, json.dumps({"plan": whole_plan}).encode())
        number, done, said = {name: i for i, name in enumerate(listed.classes)}, 0, []
        for which, (rows, plan) in enumerate(zip(shards, plans, strict=True)):
            name = name_of(which)
            head = _written(target, there, name, plan)
            if "sha256" not in head:  # which earlier versions did not write
                head = _write_shard(target, name, listed, rows, number, first=done, plan=plan)
            said.append({"name": name, "bytes": head["bytes"], "sha256": head["sha256"], "pictures": len(rows)})
            done += len(rows)
            progress("writing shards", done, len(listed.files))
        target.put(INDEX, _index(said, listed, whole_plan))
        target.remove(BEGUN)
    return len(shards)


def name_of(which: int) -> str:
    return f"{which:06}.tar"


def planned(listed: Snapshot, at_most: int) -> list[np.ndarray]:
    """Rows of each shard, of `at_most` so many bytes of pictures, or of a single one."""
    order = sorted(range(len(listed.files)), key=lambda row: (listed.digests[row], listed.files[row]))
    room = listed.sizes[order] + 5 * BLOCK  # headers, class and json among it
    shards: list[np.ndarray] = []
    first, held = 0, 0
    for place, size in enumerate(room.tolist()):
        if held and held + size > at_most:
            shards.append(np.array(order[first:place]))
            first, held = place, 0
        held += size
    return [*shards, np.array(order[first:], np.int64)] if order else []


def plan_of(listed: Snapshot, rows: Sequence[int] | np.ndarray) -> str:
    """sha256 (hex) of what a shard is to hold."""
    said = [listed.classes, [(listed.digests[row], _told(listed, int(row))) for row in rows]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _told(listed: Snapshot, row: int) -> dict[str, Any]:
    """What a sample's json says."""
    said = {"label": listed.classes[int(listed.labels[row])], "file": listed.files[row]}
    more = {
        "split": listed.parts[row],
        "group": listed.groups[row] if listed.groups else None,
        "time": listed.times[row] if listed.times else None,
    }
    return said | {name: str(value) for name, value in more.items() if value is not None}


def _write_shard(
    to: Target, called: str, listed: Snapshot, rows: np.ndarray, number: dict[str, int], *, first: int, plan: str
) -> dict[str, Any]:
    """What its index says of it."""
    entries: list[Entry] = []
    size, digest = 0, hashlib.sha256()
    with whole.file(to.draft(called)) as out:
        for key, row in enumerate(rows.tolist(), start=first):
            content, told = _content(listed, row), _told(listed, row)
            name = f"{key:09}.{_suffix(listed.files[row])}"
            part = told.get("split")
            entries.append(
                Entry(
                    name, size + BLOCK, len(content), listed.digests[row], told["label"],
                    part, told.get("group"), told.get("time"),
                )
            )  # fmt: skip
            cls, said = str(number[told["label"]]).encode(), json.dumps(told, sort_keys=True).encode()
            for member, held in ((name, content), (f"{key:09}.cls", cls), (f"{key:09}.json", said)):
                size += out.write(block := packed(member, held))
                digest.update(block)
        size += out.write(END)
        digest.update(END)
    to.keep(called)
    beside = lines(entries, size=size, plan=plan, sha256=digest.hexdigest())
    to.put(called + BESIDE, beside)
    return head_of(beside)


def _content(listed: Snapshot, row: int) -> bytes:
    lies = listed.content(row)
    if isinstance(lies, bytes):
        return lies  # out of a shard, and held against its digest there
    try:
        content = lies.read_bytes()
    except OSError as error:
        raise InputError(f"{lies} cannot be read any more ({error.strerror}); put it back") from None
    if hashlib.sha256(content).hexdigest() != listed.digests[row]:
        listed.forget()
        raise InputError(f"{lies} changed while shards were written; write them again")
    return content


def _suffix(file: str) -> str:
    found = Path(file).suffix.lower()
    return found[1:] if found in PICTURES else "jpg"  # its content tells what it is


def _written(to: Target, there: Mapping[str, int], name: str, plan: str) -> dict[str, Any]:
    """What its index says of a shard that an earlier try wrote whole; nothing where none did."""
    if name not in there or name + BESIDE not in there:
        return {}
    head = head_of(to.begin_of(name + BESIDE))
    return head if head.get("plan") == plan and there[name] == head.get("bytes") else {}


def _index(said: list[dict[str, Any]], listed: Snapshot, plan: str) -> bytes:
    told = {"format": FORMAT, "plan": plan, "name": listed.name, "mirror": listed.mirror, "classes": listed.classes}
    told["shards"] = said
    return json.dumps(told, indent=1).encode()


def _finished(to: Target, there: Mapping[str, int], plan: str) -> bool:
    """Whether it holds just these; raises `InputError` where it holds others."""
    for name, remedy in ((INDEX, "shards of other pictures"), (BEGUN, "shards of other pictures, half written")):
        if name not in there:
            continue
        try:
            said = json.loads(to.content(name))
        except (OSError, ValueError):
            continue
        if not isinstance(said, dict) or said.get("plan") != plan:
            raise InputError(f"{to.called} holds {remedy}; name a new folder, or remove it")
        return name == INDEX
    if there:
        raise InputError(f"{to.called} holds files that are no shards of these pictures; name a new folder")
    return False
