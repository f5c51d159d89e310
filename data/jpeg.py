"""How often a JPEG goes over its pixels, told without decoding it."""

import re

from data.errors import UnreadableImage

MAX_SCANS = 64  # encoders make a dozen; a hundred bytes more ask for one more pass over all pixels
MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # that tells its length; fill bytes before it are passed by


def require_few_scans(data: bytes) -> None:
    """Raises `UnreadableImage` for a JPEG of few bytes that would take hours."""
    if data.count(b"\xff\xda") <= MAX_SCANS:  # hardly any has more, and those mostly in what follows the picture
        return
    at, scans = 2, 0
    while (found := MARKER.search(data, at)) and found[1] != b"\xd9":
        at = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2]))
        scans += found[1] == b"\xda"
        if scans > MAX_SCANS:
            raise UnreadableImage(f"the JPEG has more than {MAX_SCANS} scans; save it again without so many")
