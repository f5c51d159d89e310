"""The cheap decoder gives what Pillow gives, pixel for pixel and word for word; else it leaves the file to Pillow."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data import jpeg
from data.errors import UnreadableImage
from data.preprocess import MAX_PIXELS, stored_pixels, to_pixels
from data.spec import ImageSpec

pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")  # pytest resets the filter that preprocess sets

COLOR = ImageSpec(height=16, width=16, channels=3)
GREY = ImageSpec(height=16, width=16, channels=1)
OWN_SIZE = ImageSpec(height=24, width=20, channels=3)
OWN_SIZE_GREY = ImageSpec(height=24, width=20, channels=1)
LOOSE = {"max_pixels": MAX_PIXELS, "below": 100_000}  # neither is a reason to leave a file to Pillow
ORIENTATION = 0x0112


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(picture: Image.Image | np.ndarray, kind: str = "JPEG", **options: object) -> bytes:
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def outcome(file: bytes, spec: ImageSpec, *, by_pillow: bool) -> np.ndarray | str:
    """The pixels, or what kind of refusal in which words."""
    try:
        return stored_pixels(file, spec, by_pillow=by_pillow)
    except UnreadableImage as refused:
        return f"{type(refused).__name__}: {refused}"


def assert_same(file: bytes, spec: ImageSpec = COLOR) -> np.ndarray | str:
    found, expected = outcome(file, spec, by_pillow=False), outcome(file, spec, by_pillow=True)
    if isinstance(expected, str):
        assert isinstance(found, str), f"decoded, where Pillow says {expected}"
        assert found == expected
    else:
        assert isinstance(found, np.ndarray), found
        assert (found.dtype, found.shape, found.flags.writeable) == (expected.dtype, expected.shape, True)
        assert np.array_equal(found, expected)
    return found


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def with_segment(file: bytes, marker: int, body: bytes) -> bytes:
    """As the first one, before all that the file has already."""
    return file[:2] + segment(marker, body) + file[2:]


def without_first_segment(file: bytes) -> bytes:
    return file[:2] + file[4 + int.from_bytes(file[4:6]) :]


PLAIN = encode(noise(24, 20))

# What may be said of the pictures that the cheap decoder takes on itself.
TAKEN = {
    "baseline": PLAIN,
    "progressive": encode(noise(24, 20), progressive=True),
    "optimised tables": encode(noise(24, 20), optimize=True),
    "4:4:4": encode(noise(24, 20), subsampling="4:4:4"),
    "4:2:2": encode(noise(24, 20), subsampling="4:2:2"),
    "4:1:1": simplejpeg.encode_jpeg(noise(24, 20), colorsubsampling="411"),
    "4:4:0": simplejpeg.encode_jpeg(noise(24, 20), colorsubsampling="440"),
    "grey": encode(noise(24, 20, 1)),
    "grey, progressive": encode(noise(24, 20, 1), progressive=True),
    "restarts in blocks": encode(noise(24, 20), restart_marker_blocks=1),
    "restarts in rows": encode(noise(24, 20), restart_marker_rows=1),
    "a comment": encode(noise(24, 20), comment=b"a rose"),
    "a colour profile": encode(noise(24, 20), icc_profile=bytes(700)),
    "a colour profile in parts": encode(noise(24, 20), icc_profile=bytes(150_000)),
    "bytes after the end": PLAIN + b"\xff\xd8\xff and so on",
    "another picture after the end": PLAIN + PLAIN,
    "one pixel": encode(noise(1, 1)),
    "one pixel, grey": encode(noise(1, 1, 1)),
    "one row": encode(noise(1, 70)),
    "one column": encode(noise(70, 1)),
    "no JFIF": without_first_segment(PLAIN),
    "a thumbnail": with_segment(without_first_segment(PLAIN), 0xE0, b"JFIF\0\1\2\0\0\1\0\1\2\2" + bytes(12)),
}


def exif(orientation: int) -> bytes:
    notes = Image.Exif()
    notes[ORIENTATION] = orientation
    return encode(noise(24, 20), exif=notes)


def xmp(orientation: int) -> bytes:
    return encode(noise(24, 20), xmp=f'<x:xmpmeta tiff:Orientation="{orientation}"/>'.encode())


def two_pictures() -> bytes:
    return encode(Image.fromarray(noise(24, 20)), "MPO", save_all=True, append_images=[Image.fromarray(noise(9, 9))])


FRAME = PLAIN.index(b"\xff\xc0")

# What Pillow is left to decide.
LEFT = {
    "EXIF": exif(1),
    "XMP": xmp(1),
    "both, at odds": with_segment(exif(3), 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b'tiff:Orientation="6"'),
    "broken EXIF": encode(noise(24, 20), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "CMYK": encode(Image.fromarray(noise(24, 20)).convert("CMYK")),
    "RGB, as Adobe notes it": encode(noise(24, 20), keep_rgb=True),
    "Adobe's note": with_segment(PLAIN, 0xEE, b"Adobe\0\x64\0\0\0\0\x01"),
    "Adobe's note after JFIF, untrue": with_segment(PLAIN, 0xEE, b"Adobe\0\x64\0\0\0\0\x00"),
    "Adobe's note without JFIF, untrue": with_segment(without_first_segment(PLAIN), 0xEE, b"Adobe\0\x64\0\0\0\0\x00"),
    "Adobe's note, short": with_segment(PLAIN, 0xEE, b"Adobe"),
    "Photoshop's note": with_segment(PLAIN, 0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "several pictures": two_pictures(),
    "several pictures, broken": with_segment(PLAIN, 0xE2, b"MPF\0" + bytes(20)),
    "a short colour profile": with_segment(PLAIN, 0xE2, b"ICC_PROFILE\0"),
    "a short JFIF": with_segment(PLAIN, 0xE0, b"JFIF\0"),
    "12 bits": PLAIN[: FRAME + 4] + b"\x0c" + PLAIN[FRAME + 5 :],
    "arithmetic coding": PLAIN[: FRAME + 1] + b"\xc9" + PLAIN[FRAME + 2 :],
    "lossless": PLAIN[: FRAME + 1] + b"\xc3" + PLAIN[FRAME + 2 :],
    "two components": PLAIN[: FRAME + 9] + b"\x02" + PLAIN[FRAME + 10 :],
    "two frames": PLAIN[:FRAME] + PLAIN[FRAME : FRAME + 19] + PLAIN[FRAME:],
    "no width": PLAIN[: FRAME + 7] + b"\0\0" + PLAIN[FRAME + 9 :],
    "other sampling": PLAIN[: FRAME + 11] + b"\x31" + PLAIN[FRAME + 12 :],
    "fill bytes": PLAIN[:2] + b"\xff\xff" + PLAIN[2:],
    "bytes between segments": PLAIN[:2] + b"\0" + PLAIN[2:],
    "no end": PLAIN[:-2],
    "an end at once": b"\xff\xd8\xff\xd9",
    "a PNG": encode(noise(24, 20), "PNG"),
    "a text": b"I am a text named rose.jpg",
}


def test_the_two_libraries_that_are_installed_agree():
    assert jpeg.agrees_with_pillow()


@pytest.mark.parametrize("spec", [COLOR, GREY, OWN_SIZE, OWN_SIZE_GREY])
@pytest.mark.parametrize("what", TAKEN)
def test_a_plain_jpeg_is_decoded_without_pillow_to_the_same_pixels(what, spec):
    assert jpeg.decode(TAKEN[what], **LOOSE) is not None
    assert isinstance(assert_same(TAKEN[what], spec), np.ndarray)


@pytest.mark.parametrize("spec", [COLOR, GREY, OWN_SIZE, OWN_SIZE_GREY])
@pytest.mark.parametrize("what", LEFT)
def test_all_else_is_left_to_pillow(what, spec):
    assert jpeg.decode(LEFT[what], **LOOSE) is None
    assert_same(LEFT[what], spec)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("turned", [exif, xmp])
def test_a_picture_that_is_turned_by_its_notes_is_turned(orientation, turned):
    file = turned(orientation)
    assert_same(file, ImageSpec(height=20, width=24))
    upright = to_pixels(encode(noise(24, 20)), COLOR)
    assert np.array_equal(to_pixels(file, COLOR), upright) == (orientation == 1)


@settings(max_examples=300)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    channels=st.sampled_from([1, 3]),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    progressive=st.booleans(),
    optimize=st.booleans(),
    restarts=st.integers(0, 5),
    wanted=st.sampled_from([1, 3]),
    exact=st.booleans(),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    after=st.binary(max_size=9),
    seed=st.integers(0, 9),
)
def test_pixels_are_pillows(
    size, channels, quality, subsampling, progressive, optimize, restarts, wanted, exact, fit, after, seed
):
    options = {"quality": quality, "progressive": progressive, "optimize": optimize, "restart_marker_blocks": restarts}
    if channels == 3:
        options["subsampling"] = subsampling
    file = encode(noise(*size, channels, seed), **options) + after
    height, width = size if exact else (16, 11)
    assert_same(file, ImageSpec(height=height, width=width, channels=wanted, fit=fit))
    assert jpeg.decode(file, **LOOSE) is not None


@pytest.mark.slow
@settings(max_examples=100)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["444", "422", "420", "440", "411"]),
)
def test_so_they_are_of_another_encoder(size, quality, subsampling):
    file = simplejpeg.encode_jpeg(noise(*size), quality, "RGB", subsampling)
    assert_same(file, ImageSpec(height=size[0], width=size[1]))
    assert jpeg.decode(file, **LOOSE) is not None


DAMAGED = {
    "baseline": encode(noise(24, 20), quality=40),
    "progressive": encode(noise(24, 20), quality=40, progressive=True),
    "grey": encode(noise(24, 20, 1), quality=40),
    "with restarts": encode(noise(40, 24), quality=20, restart_marker_blocks=1),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_file_that_ends_anywhere_gives_what_pillow_makes_of_it(what):
    whole = DAMAGED[what]
    for length in range(1, len(whole)):
        assert_same(whole[:length], COLOR)


@pytest.mark.parametrize(
    "what", ["baseline", *(pytest.param(what, marks=pytest.mark.slow) for what in list(DAMAGED)[1:])]
)
def test_a_byte_that_is_wrong_anywhere_gives_what_pillow_makes_of_it(what):
    whole = DAMAGED[what]
    for place in range(2, len(whole)):
        for wrong in {0, 0xFF, whole[place] ^ 1, whole[place] ^ 0x80} - {whole[place]}:
            assert_same(whole[:place] + bytes((wrong,)) + whole[place + 1 :], COLOR)


@pytest.mark.slow
@settings(max_examples=500)
@given(
    what=st.sampled_from(list(DAMAGED)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    inserted=st.binary(max_size=4),
    channels=st.sampled_from([1, 3]),
)
def test_so_do_several(what, changes, inserted, channels):
    file = bytearray(DAMAGED[what])
    for place, byte in changes:
        file[int(place * len(file))] = byte
    where = int(changes[0][0] * len(file))
    file[where:where] = inserted
    assert_same(bytes(file), ImageSpec(height=24, width=20, channels=channels))


def scans(file: bytes) -> list[int]:
    return [place for place in range(len(file)) if file[place : place + 2] == b"\xff\xda"]


def test_a_progressive_picture_that_lacks_scans_is_smoothed_alike():
    file = TAKEN["progressive"]
    for start in scans(file)[1:]:
        assert_same(file[:start] + b"\xff\xd9", ImageSpec(height=24, width=20))


def test_a_picture_that_pillow_scales_while_it_decodes_is_left_to_it():
    assert jpeg.decode(encode(noise(64, 80)), max_pixels=MAX_PIXELS, below=65) is not None
    assert jpeg.decode(encode(noise(64, 80)), max_pixels=MAX_PIXELS, below=64) is None
    for side in (63, 64, 65, 127, 128, 129, 256, 300):  # Pillow scales from 64 on: four times 16
        assert_same(encode(noise(side, side + 40)), COLOR)
        assert_same(encode(noise(side + 40, side)), ImageSpec(height=12, width=10, margin=2, fit="pad"))


def test_a_picture_over_the_limit_is_refused_by_its_header():
    bomb = PLAIN[: FRAME + 5] + (60_000).to_bytes(2) * 2 + PLAIN[FRAME + 9 :]
    assert jpeg.decode(bomb, max_pixels=MAX_PIXELS, below=100_000) is None
    assert "scale it down" in str(assert_same(bomb))
    assert jpeg.decode(PLAIN, max_pixels=24 * 20, below=100) is not None
    assert jpeg.decode(PLAIN, max_pixels=24 * 20 - 1, below=100) is None


def test_a_jpeg_of_very_many_scans_is_refused_in_the_same_words():
    file = TAKEN["grey, progressive"]
    many = file[:-2] + file[scans(file)[-1] : -2] * jpeg.MAX_SCANS + file[-2:]
    assert jpeg.decode(many, **LOOSE) is None
    assert "more than 64 scans" in str(assert_same(many))


def test_threads_decode_beside_each_other():
    files = [encode(noise(30 + i % 40, 70 - i % 40, seed=i), subsampling=i % 3) for i in range(200)]
    expected = [stored_pixels(file, COLOR, by_pillow=True) for file in files]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda file: stored_pixels(file, COLOR), files))
    assert np.array_equal(found, expected)


@pytest.mark.slow
def test_without_the_cheap_decoder_pillow_decodes_all(tmp_path):
    (tmp_path / "plain.jpg").write_bytes(PLAIN)
    code = (
        "import sys; sys.modules['simplejpeg'] = None\n"
        "from pathlib import Path; from data.preprocess import *\n"
        "sys.stdout.buffer.write(to_pixels(Path(sys.argv[1]), ImageSpec(height=16, width=16)).tobytes())"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, tmp_path / "plain.jpg"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == to_pixels(PLAIN, COLOR).tobytes()
