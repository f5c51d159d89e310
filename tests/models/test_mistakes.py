"""The wrong answers worth looking at, and small pictures of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import UnreadableImage
from data.spec import ImageSpec
from models.evaluation.mistakes import most_confident, thumbnail

SPEC = ImageSpec(height=32, width=32, channels=3)


def opened(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


def saved(folder: Path, image: Image.Image, name: str = "picture.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def test_the_surest_wrong_answers_come_first_and_right_ones_not_at_all():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    found = most_confident(probabilities, np.array([1, 1, 1, 0]), limit=2)
    assert [(m.position, m.true, m.predicted, m.probability) for m in found] == [(0, 1, 0, 0.9), (3, 0, 1, 0.7)]


def test_a_model_without_mistakes_has_none_to_show():
    assert most_confident(np.eye(3), np.arange(3)) == ()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (200, 40), (40, 200)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
def test_a_thumbnail_of_any_shape_and_mode_is_at_most_160_pixels(tmp_path, size, mode):
    small = opened(thumbnail(saved(tmp_path, Image.new(mode, size)), SPEC))
    assert small.format == "JPEG"
    assert max(small.size) <= 160


def test_a_tiny_picture_is_enlarged_so_that_its_pixels_can_be_seen(tmp_path):
    file = saved(tmp_path, Image.new("L", (8, 8)))
    assert opened(thumbnail(file, ImageSpec(height=8, width=8, channels=1))).size == (160, 160)


def test_a_thumbnail_is_turned_as_its_exif_says(tmp_path):
    image = Image.new("RGB", (100, 100), "white")
    image.paste("red", (0, 0, 100, 50))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    small = opened(thumbnail(saved(tmp_path, image, "turned.jpg", exif=exif), SPEC))
    red, _, blue = small.getpixel((small.width // 2, small.height - 5))
    assert (red, blue) > (200, -1)
    assert blue < 80


def test_the_framing_is_the_networks_own(tmp_path):
    image = Image.new("RGB", (120, 60), "white")
    image.paste("red", (30, 0, 90, 60))  # the centre square
    small = opened(thumbnail(saved(tmp_path, image), SPEC))
    assert small.width == small.height
    assert small.getpixel((3, 3))[2] < 80


def test_what_cannot_be_read_is_refused(tmp_path):
    file = tmp_path / "text.jpg"
    file.write_text("not a picture")
    with pytest.raises(UnreadableImage):
        thumbnail(file, SPEC)
    with pytest.raises(UnreadableImage):
        thumbnail(tmp_path / "absent.jpg", SPEC)
