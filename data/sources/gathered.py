"""What was fetched -> which pictures there are and what they show, as the settings of the data set would have it."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data import layout
from data.compact import Coded
from data.errors import SourceError
from data.layout import Listing, Pictures, class_name
from data.sources import imagefolder, listing
from data.spec import DatasetSpec

if TYPE_CHECKING:  # which itself asks `listing` what a listing is called
    from data.catalog import Fetched


def listings(fetched: Sequence["Fetched"], spec: DatasetSpec) -> list[Listing]:
    """One for each source, with the classes and groups that `spec` gives them. Raises `SourceError`."""
    found = [_listing(one, spec) for one in fetched]
    for one in found:
        if len(found) > 1 and not one.pictures:
            raise SourceError(
                f"{one.root} holds no picture in a class folder; leave it out of dataset.more, or mend it"
            )
    if spec.group is not None:
        found = _grouped(found, spec.group)
    return _renamed(found, spec.rename) if spec.rename else found


def _listing(one: "Fetched", spec: DatasetSpec) -> Listing:
    if one.shards is not None:
        return one.shards.listing
    return of_folder(one.root, spec) if one.listing is None else listing.read(one.listing)


def of_folder(root: Path, spec: DatasetSpec) -> Listing:
    """What metadata says of the pictures in a folder, or else the folders that they lie in. Raises `SourceError`."""
    files = layout.files_of(root)
    tables = imagefolder.tables_of(root, files)
    said = imagefolder.read(root, files, tables, label=spec.label) if tables else None
    return layout.read(root, files) if said is None else said


def _grouped(found: Sequence[Listing], pattern: str) -> list[Listing]:
    """A listing's own groups stay."""
    expression = re.compile(pattern)

    def of(file: str, group: str | None) -> str | None:
        said = None if group else expression.search(file)
        return class_name(said[1]) if said and said[1] else group

    every = [Pictures.of(one.pictures) for one in found]
    grouped = [one.grouped(Coded.of(map(of, one.files, one.groups))) for one in every]
    if any(map(len, every)) and not any(any(one.groups.distinct) for one in grouped):
        raise SourceError(
            f"dataset.group {pattern!r} is found in none of {sum(map(len, every)):,} paths, such as "
            f"{next(one.files[0] for one in every if len(one))!r}; mend it, or leave it out"
        )
    return [replace(one, pictures=pictures) for one, pictures in zip(found, grouped, strict=True)]


def _renamed(found: Sequence[Listing], rename: Sequence[str]) -> list[Listing]:
    """All at once, so that two classes can change places. What is renamed to nothing is left out."""
    names = {
        class_name(old.strip()): class_name(new.strip()) for old, _, new in (one.rpartition("=") for one in rename)
    }
    every = [Pictures.of(one.pictures) for one in found]
    known = {label for one in every for label in one.labels.distinct}
    for old in names:
        if old not in known:
            near = difflib.get_close_matches(old, known, n=3) or sorted(known, key=layout.natural)[:5]
            raise SourceError(
                f"dataset.rename speaks of {old!r}, which is no class here; use one of the classes, such as "
                f"{' or '.join(near)}"
            )
    renamed = [one.renamed(lambda label: names.get(label, label)) for one in every]
    left = [one.taken(~one.labels.where("")) for one in renamed]
    return [replace(one, pictures=pictures) for one, pictures in zip(found, left, strict=True)]
