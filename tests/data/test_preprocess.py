"""Image bytes -> pixels: every format and mode, exact where exact is promised, refused where it must be."""

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data import jpeg
from data.errors import ImageTooLarge, UnreadableImage
from data.preprocess import MAX_PIXELS, centre, read_header, stored_pixels, to_pixels
from data.spec import ImageSpec
from data.turned import TURNS

pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")  # pytest resets the filter that preprocess sets

COLOR = ImageSpec(height=16, width=16, channels=3)
GREY = ImageSpec(height=16, width=16, channels=1)


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture that survives lossy compression: red rises to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], 2).astype(np.uint8)


def turned(pixels: np.ndarray, orientation: int) -> bytes:
    """A PNG of the picture lying as EXIF `orientation` says, so that a reader who turns it sees `pixels`."""
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image.transpose(TURNS[undo]) if orientation > 1 else image, exif=exif)


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes whose header promises a large picture."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(
    full=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    margin=st.integers(0, 6),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
)
def test_any_picture_becomes_the_shape_that_was_asked_for(full, size, margin, channels, fit):
    spec = ImageSpec(height=size[0], width=size[1], channels=channels, margin=margin, fit=fit)
    file = encode(noise(*full))
    stored = stored_pixels(file, spec)
    assert stored.shape == (spec.stored_height, spec.stored_width, channels)
    assert stored.dtype == np.uint8
    assert np.array_equal(to_pixels(file, spec), centre(stored, spec))
    assert to_pixels(file, spec).shape == (size[0], size[1], channels)


@settings(max_examples=30)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from([1, 3]),
    kind=st.sampled_from(["PNG", "BMP", "TIFF"]),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
)
def test_a_picture_of_the_exact_size_passes_unchanged(size, channels, kind, fit):
    pixels = noise(*size, channels)
    spec = ImageSpec(height=size[0], width=size[1], channels=channels, fit=fit)
    assert np.array_equal(to_pixels(encode(pixels, kind), spec).squeeze(), pixels.squeeze())


@settings(max_examples=20)
@given(
    value=st.integers(0, 255),
    full=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    fit=st.sampled_from(["crop", "stretch"]),
)
def test_a_picture_of_one_colour_keeps_it(value, full, fit):
    spec = ImageSpec(height=9, width=13, fit=fit)
    assert (to_pixels(encode(np.full((*full, 3), value, np.uint8)), spec) == value).all()


def test_a_path_and_its_bytes_give_the_same_pixels(tmp_path):
    file = tmp_path / "name that lies.txt"
    file.write_bytes(encode(noise(30, 20)))
    assert np.array_equal(to_pixels(file, COLOR), to_pixels(file.read_bytes(), COLOR))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_the_exif_turn_is_applied(orientation, size):
    upright = noise(*size)
    assert np.array_equal(to_pixels(turned(upright, orientation), COLOR), to_pixels(encode(upright), COLOR))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_the_exif_turn_is_applied_in_every_format_that_has_one(orientation, kind):
    upright = smooth(40, 24)
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    lying = Image.fromarray(upright).transpose(TURNS[undo]) if orientation > 1 else Image.fromarray(upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = to_pixels(encode(lying, kind, exif=exif), COLOR).astype(int)
    assert np.abs(seen - to_pixels(encode(upright), COLOR)).mean() < 4


def test_a_broken_exif_block_does_not_refuse_the_picture():
    file = encode(smooth(16, 16), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert to_pixels(file, COLOR).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("GIF", {}), ("PNG", {})]
)
def test_each_format_shows_the_same_picture(kind, options):
    pixels = smooth(64, 64)
    seen = to_pixels(encode(pixels, kind, **options), COLOR).astype(int)
    assert np.abs(seen - to_pixels(encode(pixels), COLOR)).mean() < 6


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_exact(compression):
    pixels = noise(16, 16)
    assert np.array_equal(to_pixels(encode(pixels, "TIFF", compression=compression), COLOR), pixels)


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        file = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        red, green, _ = to_pixels(file, COLOR)[8, 8].astype(int)
        assert red > 240, kind
        assert green < 15, kind


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind):
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    assert np.array_equal(to_pixels(encode(ramp, kind), GREY)[..., 0], np.arange(256).reshape(16, 16))


def test_big_endian_16_bit_tiff_is_read_alike():
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    image = Image.frombytes("I;16B", (16, 16), ramp.astype(">u2").tobytes())
    assert np.array_equal(to_pixels(encode(image, "TIFF"), GREY)[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32), 1),
        (np.linspace(0, 255, 256, dtype=np.float32), 255),
        (np.linspace(0, 65535, 256, dtype=np.float32), 65535),
        (np.linspace(-7, 1e6, 256, dtype=np.float32), None),
        (np.arange(256, dtype=np.int32), 255),
        (np.arange(256, dtype=np.int32) * 257, 65535),
        (np.arange(256, dtype=np.int32) * 5000 - 9, None),
    ],
)
def test_32_bit_tiff_spans_black_to_white(values, white):  # noqa: ARG001 - the white is the case's name
    seen = to_pixels(encode(Image.fromarray(values.reshape(16, 16)), "TIFF"), GREY).ravel()
    assert seen[0] == 0
    assert seen[-1] == 255
    assert np.abs(np.diff(seen.astype(int)) - 1).max() <= 1


def test_a_float_picture_with_holes_and_a_flat_one_are_read():
    holes = np.full((16, 16), np.nan, np.float32)
    holes[4:8] = 1
    seen = to_pixels(encode(Image.fromarray(holes), "TIFF"), GREY)
    assert (seen[4:8] == 255).all()
    assert (seen[:4] == 0).all()
    flat = np.full((16, 16), -3, np.int32)
    assert to_pixels(encode(Image.fromarray(flat), "TIFF"), GREY).shape == (16, 16, 1)


def half_clear(mode: str) -> Image.Image:
    """Left half transparent, right half black."""
    alpha = np.zeros((16, 16), np.uint8)
    alpha[:, 8:] = 255
    image = Image.new("LA" if mode == "LA" else "RGBA", (16, 16))
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize("spec", [COLOR, GREY])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_shows_white(mode, spec):
    seen = to_pixels(encode(half_clear(mode)), spec)
    assert (seen[:, :8] == 255).all()
    assert (seen[:, 8:] == 0).all()


def test_half_transparent_is_half_way_to_white():
    seen = to_pixels(encode(Image.new("RGBA", (16, 16), (0, 0, 0, 128))), COLOR)
    assert set(np.unique(seen)) <= {126, 127, 128}


def test_an_opaque_alpha_channel_changes_nothing():
    opaque = np.dstack([noise(16, 16), np.full((16, 16), 255, np.uint8)])
    assert np.array_equal(to_pixels(encode(opaque), COLOR), opaque[..., :3])


@pytest.mark.parametrize("transparency", [0, b"\0\xff\xff"])
def test_a_palette_with_transparency_shows_white(transparency):
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    image.paste(1, (8, 0, 16, 16))
    seen = to_pixels(encode(image, transparency=transparency), COLOR)
    assert (seen[:, :8] == 255).all()
    assert (seen[:, 8:] == (0, 0, 255)).all()


def test_a_colour_key_shows_white():
    image = Image.new("RGB", (16, 16), (1, 2, 3))
    image.paste((9, 9, 9), (8, 0, 16, 16))
    seen = to_pixels(encode(image, transparency=(1, 2, 3)), COLOR)
    assert (seen[:, :8] == 255).all()
    assert (seen[:, 8:] == 9).all()


def test_a_palette_is_looked_up():
    image = Image.new("P", (16, 16), 1)
    image.putpalette([255, 0, 0, 10, 20, 30])
    assert (to_pixels(encode(image), COLOR) == (10, 20, 30)).all()


def test_one_bit_is_black_and_white():
    image = Image.new("1", (16, 16), 0)
    image.paste(1, (8, 0, 16, 16))
    seen = to_pixels(encode(image), GREY)
    assert (seen[:, :8] == 0).all()
    assert (seen[:, 8:] == 255).all()


def test_a_cmyk_jpeg_keeps_its_colours():
    cmyk = Image.new("RGB", (64, 64), (200, 40, 30)).convert("CMYK")
    seen = to_pixels(encode(cmyk, "JPEG", quality=95), COLOR).reshape(-1, 3).mean(0)
    assert np.abs(seen - (200, 40, 30)).max() < 6


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma():
    grey = noise(16, 16, 1)
    seen = to_pixels(encode(grey), COLOR)
    assert (seen == grey[..., None]).all()
    assert (to_pixels(encode(Image.new("RGB", (16, 16), (255, 0, 0))), GREY) == 76).all()


def test_crop_keeps_the_middle_and_pad_keeps_everything():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    file = encode(wide)
    assert (to_pixels(file, ImageSpec(height=20, width=20, fit="crop")) == 255).all()
    padded = to_pixels(file, ImageSpec(height=60, width=60, fit="pad"))
    assert np.array_equal(padded[20:40], wide)
    assert not padded[:20].any()
    assert not padded[40:].any()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_scaled_jpeg_decode_looks_like_the_full_one(fit):
    spec = ImageSpec(height=48, width=32, fit=fit)
    large = Image.fromarray(noise(60, 90)).resize((800, 552), Image.Resampling.BICUBIC)
    scaled = to_pixels(encode(large, "JPEG", quality=95), spec).astype(int)
    assert np.abs(scaled - to_pixels(encode(large), spec)).mean() < 1


def test_the_header_tells_size_and_greyness():
    assert read_header(encode(noise(20, 30))) == read_header(encode(noise(20, 30, seed=1)))
    header = read_header(encode(noise(20, 30)))
    assert (header.width, header.height, header.grey) == (30, 20, False)
    assert read_header(encode(noise(8, 8, 1))).grey
    assert read_header(encode(Image.fromarray(noise(8, 8, 1)), "GIF")).grey
    assert not read_header(encode(Image.fromarray(noise(8, 8)), "GIF")).grey
    with pytest.raises(UnreadableImage, match="no readable"):
        read_header(b"text")


WHOLE = {
    "JPEG": {},
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "GIF": {},
    "TIFF": {},
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(kind, share):
    file = encode(noise(60, 60), kind, **WHOLE[kind])
    with pytest.raises(UnreadableImage):
        to_pixels(file[: int(len(file) * share)], COLOR)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (b"", "empty"),
        (b"I am a text named rose.jpg\n" * 50, "no readable JPEG, PNG, WebP, BMP, GIF or TIFF picture"),
        (b"\xff\xd8\xff\xe0 and no more", "truncated or damaged"),
        (b"%PDF-1.7", "no readable"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no readable"),
        (encode(Image.new("RGB", (9, 9)), "PPM"), "no readable"),
        (encode(Image.new("RGB", (32, 32)), "ICO"), "no readable"),
    ],
)
def test_what_is_no_picture_is_refused_in_our_own_words(file, sentence):
    with pytest.raises(UnreadableImage, match=sentence) as caught:
        to_pixels(file, COLOR)
    assert "0x" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF"]),
    where=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8),
    byte=st.integers(0, 255),
)
def test_a_damaged_file_gives_pixels_or_a_sentence_and_nothing_else(kind, where, byte):
    file = bytearray(encode(smooth(24, 20), kind))
    for place in where:
        file[int(place**2 * len(file))] = byte  # mostly near the front, where the header is
    try:
        assert to_pixels(bytes(file), COLOR).shape == (16, 16, 3)
    except UnreadableImage as refused:
        assert "0x" not in str(refused)  # noqa: PT017 - either way is right


@pytest.mark.parametrize(("width", "height"), [(12_000, 12_000), (65_000, 65_000), (1, MAX_PIXELS + 1), (9_000, 8_000)])
def test_a_bomb_is_refused_by_its_header(width, height):
    with pytest.raises(ImageTooLarge, match="scale it down"):
        to_pixels(png_claiming(width, height), COLOR)


def test_a_gif_and_a_tiff_bomb_are_refused():
    gif = bytearray(encode(noise(8, 8, 1), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    with pytest.raises(ImageTooLarge):
        to_pixels(bytes(gif), COLOR)
    tags = [
        (256, 4, 8),
        (257, 4, 8),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (322, 4, 60_000),
        (323, 4, 60_000),
        (324, 4, 8),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 64
    with pytest.raises(UnreadableImage):
        to_pixels(tiff, COLOR)


def with_scans(more: int, *, side: int = 64) -> bytes:
    """A progressive JPEG that goes over its pixels `more` times more."""
    stream = io.BytesIO()
    Image.new("L", (side, side), 128).save(stream, "JPEG", progressive=True)
    whole, end = stream.getvalue()[:-2], stream.getvalue()[-2:]
    return whole + whole[whole.rindex(b"\xff\xda") :] * more + end


@pytest.mark.slow
def test_a_jpeg_of_very_many_scans_is_refused_before_they_are_made():
    to_pixels(with_scans(20), ImageSpec(height=16, width=16))
    with pytest.raises(UnreadableImage, match="more than 64 scans"):
        to_pixels(with_scans(5000, side=8000), ImageSpec(height=16, width=16))  # it would take minutes


def test_what_follows_a_jpeg_is_not_counted_as_its_scans():
    to_pixels(with_scans(0) + b"\xff\xda" * 100, ImageSpec(height=16, width=16))


def test_looking_for_scans_takes_no_longer_for_bytes_that_fill():
    begun = time.perf_counter()
    jpeg.require_few_scans(b"\xff\xd8" + b"\xff" * 300_000 + b"\0" + b"\xff\xda" * 100)
    assert time.perf_counter() - begun < 5  # milliseconds; going back over them at each would take minutes


def test_a_missing_file_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file"):
        to_pixels(tmp_path / "gone.png", COLOR)


@pytest.mark.slow
def test_odd_pictures_print_nothing_and_need_no_torch(tmp_path):
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    (tmp_path / "odd.png").write_bytes(encode(palette, transparency=b"\x80\xff"))
    (tmp_path / "large.png").write_bytes(png_claiming(9_600, 9_600))  # where Pillow itself would warn
    code = (
        "import sys; from pathlib import Path; from data.preprocess import *; from data.errors import *\n"
        "for name in ('odd.png', 'large.png'):\n"
        "    try: to_pixels(Path(sys.argv[1], name), ImageSpec(height=8, width=8))\n"
        "    except UnreadableImage: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
