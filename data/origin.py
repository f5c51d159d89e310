"""Where a file came from, and in which version: kept beside it."""

import json
from pathlib import Path

from data.frozen import Frozen


class Origin(Frozen):
    """What the server said of a file: kept beside it, to resume it and to ask later whether it changed."""

    url: str
    etag: str | None
    modified: str | None

    @property
    def validator(self) -> str | None:
        """For If-Range: a strong ETag, or the date. Without one, two versions could be mixed into one file."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def origin_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.origin.json")


def origin_of(file: Path) -> Origin | None:
    try:
        return Origin.model_validate(json.loads(origin_file(file).read_bytes()))
    except (OSError, ValueError):
        return None


def is_of(url: str, target: Path) -> bool:
    """Whether the file is there, and from this address."""
    origin = origin_of(target)
    return target.exists() and origin is not None and origin.url == url
