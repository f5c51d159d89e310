"""JPEGs without Pillow: plain ones -> the pixels that Pillow gives, by TurboJPEG; and how many scans one has.

Pillow spends most of a small picture's time in Python, holding the interpreter lock; simplejpeg is one call, which
decodes without it. Both decode by libjpeg-turbo, each by its own copy.
"""

import io
import re
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.errors import UnreadableImage

try:
    import simplejpeg
except ImportError:  # a dependency; but programs that only need Pillow's pixels run without it too
    simplejpeg = None

MAX_SCANS = 64  # encoders make a dozen; a hundred bytes more ask for one more pass over all pixels
MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # that tells its length; fill bytes before it are passed by

SCAN = 0xDA
FRAMES = (0xC0, 0xC2)  # Huffman coded, in one pass or progressively
COLOURS = {1: "gray", 3: "rgb"}  # by the number of components
WITHOUT_MEANING = (0xC4, 0xDB, 0xDD, 0xFE)  # for Pillow, that is: tables, restarts, comments
NOTES = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0"}
SHORTEST_NOTE = 16  # bytes, its length's two among them; Pillow refuses shorter ones
TRIED = 37, 51, 3  # of the picture by which the two are compared: no side is a multiple of 8


class Frame(NamedTuple):
    """The shape of the picture, as stored."""

    height: int
    width: int
    channels: int


def decode(data: bytes, *, max_pixels: int, below: int) -> np.ndarray | None:
    """Pillow's pixels of a whole and plain JPEG, uint8 (height, width, 1 or 3); None where Pillow is to decide.

    That is so too where the picture has more than `max_pixels`, or no side shorter than `below`: Pillow scales while it
    decodes, and chooses other scales than TurboJPEG.
    """
    frame = plain_frame(data)
    if frame is None or frame.height * frame.width > max_pixels or min(frame.height, frame.width) >= below:
        return None
    if data.count(b"\xff\xda") > MAX_SCANS or not agrees_with_pillow():
        return None
    return _by_turbojpeg(data, frame.channels)


def plain_frame(data: bytes) -> Frame | None:
    """What a JPEG's header says, if it holds nothing of which decoders could think differently; else None.

    Every segment before the first scan is whole and begins where the last one ended. EXIF and XMP may turn the picture,
    Adobe's note changes its colours, others name further pictures: those files are Pillow's.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    frame: Frame | None = None
    at, end = 2, len(data)
    while at + 4 <= end and data[at] == 0xFF:
        marker, length = data[at + 1], data[at + 2] << 8 | data[at + 3]
        at += 2
        if length < 2 or at + length > end:
            return None
        if marker == SCAN:
            return frame
        if marker in FRAMES and frame is None:
            frame = _frame(data[at + 2 : at + length])
            if frame is None:
                return None
        elif marker not in WITHOUT_MEANING and not _is_plain_note(marker, data[at : at + length]):
            return None
        at += length
    return None


def _frame(body: bytes) -> Frame | None:
    """body: precision, height, width, components, three bytes of each."""
    if len(body) < 6 or body[0] != 8 or body[5] not in COLOURS or len(body) != 6 + 3 * body[5]:
        return None
    return Frame(int.from_bytes(body[1:3]), int.from_bytes(body[3:5]), body[5])


def _is_plain_note(marker: int, segment: bytes) -> bool:
    """segment: two bytes of length, then the name of what follows."""
    return marker in NOTES and len(segment) >= SHORTEST_NOTE and segment.startswith(NOTES[marker], 2)


def _by_turbojpeg(data: bytes, channels: int) -> np.ndarray | None:
    """None for a file of which libjpeg as much as warns: what to make of it is Pillow's to say."""
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, COLOURS[channels], strict=True)
    except (MemoryError, RuntimeError, ValueError):
        return None
    return pixels


@cache
def agrees_with_pillow() -> bool:
    """Whether the two give the same pixels here, looked at once: a Pillow may come with any libjpeg."""
    if simplejpeg is None:
        return False
    noise = np.random.default_rng(0).integers(0, 256, TRIED, np.uint8)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "JPEG", quality=90, subsampling=subsampling)
        found = _by_turbojpeg(file.getvalue(), channels=3)
        if found is None or not np.array_equal(found, np.asarray(Image.open(file))):
            return False
    return True


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
