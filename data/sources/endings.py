"""What a picture in a table would be called as a file."""

import posixpath

from data.layout import PICTURES


def suffix_of(content: bytes, path: str) -> str:
    """That of its name, or of its first bytes; nothing where neither tells."""
    said = posixpath.splitext(path)[1].lower()
    if said in PICTURES:
        return said
    starts = {
        b"\x89PNG": ".png",
        b"\xff\xd8\xff": ".jpg",
        b"GIF8": ".gif",
        b"BM": ".bmp",
        b"II*\0": ".tif",
        b"MM\0*": ".tif",
    }
    known = [suffix for start, suffix in starts.items() if content.startswith(start)]
    return known[0] if known else ".webp" if content[8:12] == b"WEBP" else ""
