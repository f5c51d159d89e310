"""Pictures that are stored turned or mirrored, by their EXIF note: what turns them back."""

from pathlib import Path

from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """1..8; a picture whose EXIF data is broken is upright."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - the pixels are good; so a broken note beside them refuses nothing
        return 1


def on_its_side(file: Path) -> bool:
    """Whether a quarter turn makes it upright, so that the stored width is its height."""
    try:
        with Image.open(file) as header:
            return orientation(header) >= 5
    except Exception:  # noqa: BLE001 - on hostile bytes Pillow's plugins raise nearly anything
        return False
