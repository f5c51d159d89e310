"""Rules about files that could not be decoded. They are in no part at any level: there is nothing to show a network."""

from pathlib import Path

import numpy as np

from data.gate.config import Truncated, Unreadable
from data.gate.found import Found, Spot, Subject
from data.gate.words import count

TAIL = 1024  # bytes in which a format's end mark is looked for
ADVICE = "replace the file, or drop"


def truncated(subject: Subject, setting: Truncated) -> Found | None:
    """Where there are too many, `unreadable` says so of all together."""
    reasons = _refused(subject)
    rows = [] if _too_many(subject, reasons) else [row for row in reasons if ends_early(subject.snapshot.path(row))]
    if not rows:
        return None
    left = ", left out" if setting.level == "drop" else ""
    message = (
        f"{count(rows, 'picture file')} without an end (truncated){left}, such as {subject.file(rows[0])}; "
        "copy or download them again"
    )
    return Found(message, tuple(Spot(row, advice=ADVICE) for row in rows))


def unreadable(subject: Subject, setting: Unreadable) -> Found | None:
    """`dataset.max_unreadable` holds for these and the truncated ones together."""
    reasons, total = _refused(subject), len(subject.snapshot.files)
    too_many = _too_many(subject, reasons)
    rows = [row for row in reasons if too_many or not ends_early(subject.snapshot.path(row))]
    if not rows:
        return None
    share = f"{len(rows):,} of {total:,} pictures ({len(rows) / total:.1%}) cannot be read"
    example = f"{subject.file(rows[0])}: {reasons[rows[0]]}"
    allowed = f"more than dataset.max_unreadable {subject.spec.max_unreadable:g} allows, such as {example}"
    left = " and are left out" if setting.level == "drop" else ""
    said = f"{share}, {allowed}" if too_many else f"{share}{left}, such as {example}"
    spots = tuple(Spot(row, advice=ADVICE) for row in rows)
    return Found(f"{said}; replace or remove them", spots, refused=too_many)


def ends_early(path: Path) -> bool:
    """Whether a damaged picture file lacks its end: nothing in it, no end mark of its format, or less than its header
    announces. False where the format does not tell (TIFF)."""
    try:
        with path.open("rb") as file:
            head, size = file.read(12), file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            tail = file.read()
    except OSError:
        return False
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" not in tail
    if head.startswith(b"GIF8"):
        return not tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"RIFF"):  # WebP: the size of what follows the first eight bytes
        return int.from_bytes(head[4:8], "little") + 8 > size
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:6], "little") > size
    return size == 0


def _refused(subject: Subject) -> dict[int, str]:
    """Row -> why it could not be decoded, of those that are asked about."""
    assert subject.images is not None
    asked, files = subject.asked, subject.snapshot.files
    decoded = np.zeros(len(files), bool)
    decoded[subject.images.rows] = True
    missing = np.flatnonzero(~decoded).tolist()
    reasons = {one.file: one.reason for one in subject.images.unreadable}
    return {row: reasons[files[row]] for row in missing if asked[row]}


def _too_many(subject: Subject, refused: dict[int, str]) -> bool:
    return len(refused) > subject.spec.max_unreadable * len(subject.snapshot.files)
