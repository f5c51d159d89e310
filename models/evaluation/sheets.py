"""The pictures that the gate speaks of, small and whole: one sheet for each finding. No torch and no template here."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from data.gate.found import Finding
from data.gate.words import printable
from data.snapshot import Snapshot
from data.upright import upright

MOST = 24  # pictures of a sheet
OF_A_GROUP = 4  # pictures of a group, so that several groups are seen


@dataclass(frozen=True)
class Thumb:
    """One picture. `file`: as the source names it; what cannot be printed is replaced."""

    file: str
    jpeg: bytes | None  # None: it cannot be decoded


Group = tuple[Thumb, ...]
"""Pictures that belong beside each other, or one alone."""


def sheets(
    findings: Sequence[Finding], snapshot: Snapshot, *, most: int = MOST, side: int = 160
) -> dict[str, tuple[Group, ...]]:
    """Rule -> its first groups, with at most `most` pictures of at most `side` pixels. Rules that speak of no pictures
    of the snapshot have none."""
    wanted = {file for finding in findings for group in groups(finding) for file in group}
    rows = {name: row for row, file in enumerate(snapshot.files) if (name := printable(file)) in wanted}
    known: dict[str, bytes | None] = {}  # a picture may be on several sheets
    found = {}
    for finding in findings:
        left, shown = most, []
        for group in groups(finding):
            files = [file for file in group if file in rows][: min(OF_A_GROUP, left)]
            for file in files:
                if file not in known:
                    known[file] = small(snapshot.path(rows[file]), side=side)
            left -= len(files)
            shown += [tuple(Thumb(file, known[file]) for file in files)] if files else []
            if not left:
                break
        if shown:
            found[finding.rule] = tuple(shown)
    return found


def groups(finding: Finding) -> tuple[tuple[str, ...], ...]:
    """Of files: those of one content or nearly so together, others alone."""
    return finding.groups or tuple((file,) for file in finding.files)


def small(file: Path, *, side: int) -> bytes | None:
    """The whole picture, as wide and high as it is, as JPEG of at most `side` pixels; None where it cannot be decoded.

    One that is much smaller is enlarged by a whole factor, so that its pixels can be seen.
    """
    try:
        picture = upright(file, largest=side, channels=3)
    except Exception:  # noqa: BLE001 - on hostile bytes Pillow's reader of EXIF raises nearly anything
        return None
    if (factor := side // max(picture.size)) > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=80, optimize=True)
    return out.getvalue()
