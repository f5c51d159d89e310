"""The one geometry: image bytes -> uint8 pixels, for ingestion, golden samples and the service alike.

Pillow decides what a picture is; `data.jpeg` decodes the plain ones to the same pixels, and faster. JPEG, PNG, WebP,
BMP, GIF and TIFF are told by content, never by name; of several frames the first is taken; the EXIF turn is applied;
transparency shows white. Colour profiles are not applied.
Whatever changes a pixel of any picture changes `PREPROCESS_VERSION` too.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# The plugins by name: `Image.open` would otherwise load all forty for the first WebP.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from data import jpeg, turned
from data.errors import ImageTooLarge, UnreadableImage
from data.spec import ImageSpec

PREPROCESS_VERSION = 1  # part of the cache key of decoded pictures

FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
    )
)
MAX_PIXELS = 64_000_000  # refused by the header, before anything is decoded
DRAFT_REDUCTION = 2  # a scaled JPEG decode leaves at least this many times the target for the resize proper
PAD_VALUE = 0
TILE_SIDES = (322, 323)  # TIFF tags: width and height of a tile, which may be far larger than the picture

# Once, and for Pillow alone: a filter around each call would not be safe in the threads of a server.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Header:
    """What a file says about itself before it is decoded."""

    width: int  # as stored, before any EXIF turn
    height: int
    grey: bool


def to_pixels(file: bytes | Path, spec: ImageSpec) -> np.ndarray:
    """What the network sees: uint8 (height, width, C), the centre of `stored_pixels`.

    Raises `UnreadableImage`, or its subclass `ImageTooLarge`, with a sentence that does not name the file.
    """
    return np.ascontiguousarray(centre(stored_pixels(file, spec), spec))


def centre(pixels: Any, spec: ImageSpec) -> Any:
    """What the network sees of stored pictures: (..., stored_height, stored_width, C) -> (..., height, width, C).

    A view; numpy arrays and torch tensors alike.
    """
    margin = spec.margin
    return pixels[..., margin : margin + spec.height, margin : margin + spec.width, :]


def stored_pixels(file: bytes | Path, spec: ImageSpec, *, by_pillow: bool = False) -> np.ndarray:
    """The picture with its margin: uint8 (stored_height, stored_width, C). Raises as `to_pixels` does.

    A picture that has this size already passes unchanged, bit for bit. by_pillow: alone, for comparison; slower.
    """
    data, height, width = _read(file), spec.stored_height, spec.stored_width
    at_least = DRAFT_REDUCTION * max(height, width)
    plain = None if by_pillow else jpeg.decode(data, max_pixels=MAX_PIXELS, below=2 * at_least)
    if plain is None:
        image = _decode(data, at_least=at_least)
    elif plain.shape == (height, width, spec.channels):
        return plain
    else:
        image = Image.fromarray(plain[..., 0] if plain.shape[2] == 1 else plain)
    mode = "L" if spec.channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    return np.array(_fit(image, width, height, spec.fit)).reshape(height, width, spec.channels)


def read_header(file: bytes | Path) -> Header:
    """Size and greyness without decoding. Raises as `to_pixels` does."""
    if isinstance(file, bytes) and not file:
        raise _empty()
    try:
        with _open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            palette = image.getpalette() if image.mode == "P" else None
            return Header(image.width, image.height, _is_grey(image.mode, palette))
    except UnreadableImage:
        raise
    except Exception as error:  # noqa: BLE001 - on hostile bytes Pillow's plugins raise nearly anything
        raise _damaged(error) from None


def _is_grey(mode: str, palette: list[int] | None) -> bool:
    if mode == "P":
        return palette is None or palette[0::3] == palette[1::3] == palette[2::3]
    return mode in ("1", "L", "LA", "La", "I", "F") or mode.startswith("I;")


def _read(file: bytes | Path) -> bytes:
    try:
        data = file if isinstance(file, bytes) else file.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"the file cannot be opened ({error.strerror}); mend that or leave it out") from None
    if not data:
        raise _empty()
    return data


def _open(source: io.BytesIO | Path) -> Image.Image:
    """The header. Raises `ImageTooLarge`; anything else is Pillow's."""
    try:
        image = Image.open(source, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge(f"the picture has more than {MAX_PIXELS:,} pixels; scale it down") from None
    sides = [image.size]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sides.append((int(image.tag_v2.get(TILE_SIDES[0], 1)), int(image.tag_v2.get(TILE_SIDES[1], 1))))
    for width, height in sides:
        if width * height > MAX_PIXELS:
            image.close()
            raise ImageTooLarge(
                f"the picture is {width} x {height} pixels, more than the limit of {MAX_PIXELS:,}; scale it down"
            )
    return image


def _decode(data: bytes, *, at_least: int) -> Image.Image:
    """Upright, 8 bits, mode L or RGB, not transparent.

    A JPEG may come scaled down by 2, 4 or 8, its shorter side not below `at_least`: libjpeg then skips most of the
    work, and the antialiased resize reduces what is left. On photographs no pixel differs by more than 2 of 255; where
    the scale does not divide a side, the far edge moves by less than half a pixel of the target.
    """
    try:
        with _open(io.BytesIO(data)) as image:
            if image.format in ("JPEG", "MPO"):
                jpeg.require_few_scans(data)
            image.draft(None, (at_least, at_least))
            image.load()
            turn = turned.TURNS.get(turned.orientation(image))
            flat = _flatten(image)
            return flat if turn is None else flat.transpose(turn)
    except UnreadableImage:
        raise
    except Exception as error:  # noqa: BLE001 - on hostile bytes Pillow's plugins raise nearly anything
        raise _damaged(error) from None


def _flatten(image: Image.Image) -> Image.Image:
    """Any mode -> L or RGB, transparency over white."""
    if image.mode.startswith("I;") or image.mode in ("I", "F"):
        return Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(clear, mask=clear.getchannel("A"))
        return flat
    if image.mode in ("L", "RGB"):
        return image.copy() if image.readonly else image
    return image.convert("L" if image.mode == "1" else "RGB")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Grey of more than 8 bits, scaled and not clipped; uint8.

    16-bit pictures use their whole range. 32-bit integers and floats have no agreed white: it is the smallest of 1
    (floats), 255 and 65535 that nothing exceeds, else the picture's own range is stretched.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    exact = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    low, high = exact.min(), exact.max()
    whites = (1, 255, 65535) if values.dtype.kind == "f" else (255, 65535)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    scaled = (exact - low) / max(high - low, 1e-30) if white is None else exact / white
    return np.rint(scaled * 255).astype(np.uint8)


def _fit(image: Image.Image, width: int, height: int, fit: str) -> Image.Image:
    """Exactly width x height; bilinear with antialias, in one resize of the part that is kept."""
    if image.size == (width, height):
        return image
    full_width, full_height = image.size
    kept = (0.0, 0.0, float(full_width), float(full_height))
    if fit == "crop":
        scale = min(full_width / width, full_height / height)
        left = max(0.0, (full_width - width * scale) / 2)
        top = max(0.0, (full_height - height * scale) / 2)
        kept = (left, top, full_width - left, full_height - top)
    elif fit == "pad":
        scale = max(full_width / width, full_height / height)
        inner = max(1, round(full_width / scale)), max(1, round(full_height / scale))
        framed = Image.new(image.mode, (width, height), (PAD_VALUE,) * len(image.getbands()))
        resized = image.resize(inner, Image.Resampling.BILINEAR)
        framed.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return framed
    return image.resize((width, height), Image.Resampling.BILINEAR, box=kept)


def _empty() -> UnreadableImage:
    return UnreadableImage("the file is empty (0 bytes); replace it or leave it out")


def _damaged(error: Exception) -> UnreadableImage:
    """Our own words: Pillow's hold object addresses."""
    if isinstance(error, UnidentifiedImageError):
        return UnreadableImage(
            "the content is no readable JPEG, PNG, WebP, BMP, GIF or TIFF picture; convert it to one of these"
        )
    return UnreadableImage("the picture is truncated or damaged; replace it or leave it out")
