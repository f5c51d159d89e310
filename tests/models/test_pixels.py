import numpy as np
import pytest
import torch

from data.spec import ImageSpec
from models.pixels import Pixels, measure
from models.records import PixelStatistics

COLOUR = ImageSpec(height=6, width=5, channels=3)
STATISTICS = PixelStatistics(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def pictures(num: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, 6, 5, 3), dtype=np.uint8)


def test_pixels_are_scaled_shifted_and_put_channels_first():
    out = Pixels(COLOUR, STATISTICS)(torch.from_numpy(pictures()))
    by_hand = (pictures() / 255 - STATISTICS.mean) / STATISTICS.std
    assert out.shape == (7, 3, 6, 5)
    np.testing.assert_allclose(out.numpy(), by_hand.transpose(0, 3, 1, 2), atol=1e-5)


def test_the_result_is_in_channels_last_memory():
    out = Pixels(COLOUR, STATISTICS)(torch.from_numpy(pictures()))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_floats_of_0_to_255_give_the_same_as_bytes():
    layer, pixels = Pixels(COLOUR, STATISTICS), torch.from_numpy(pictures())
    assert torch.equal(layer(pixels), layer(pixels.float()))


def test_the_network_type_is_kept():
    assert Pixels(COLOUR, STATISTICS).to(torch.bfloat16)(torch.from_numpy(pictures())).dtype == torch.bfloat16


def test_statistics_travel_with_the_weights():
    other = Pixels(COLOUR, PixelStatistics(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    other.load_state_dict(Pixels(COLOUR, STATISTICS).state_dict())
    pixels = torch.from_numpy(pictures())
    assert torch.equal(other(pixels), Pixels(COLOUR, STATISTICS)(pixels))


def test_statistics_of_other_channels_are_refused():
    with pytest.raises(ValueError, match="1 channels for pictures of 3"):
        Pixels(ImageSpec(height=6, width=5, channels=3), PixelStatistics(mean=(0.5,), std=(0.2,)))


def test_grey_pictures_come_out_in_as_many_channels_as_the_statistics_have():
    grey = torch.randint(0, 256, (2, 6, 5, 1)).byte()
    colour = Pixels(ImageSpec(height=6, width=5, channels=3), STATISTICS)(grey.expand(-1, -1, -1, 3))
    assert torch.equal(Pixels(ImageSpec(height=6, width=5, channels=1), STATISTICS)(grey), colour)


def test_measured_statistics_are_those_of_the_rows_alone():
    pixels, rows = pictures(), np.array([4, 1, 2])
    measured = measure(pixels, rows)
    np.testing.assert_allclose(measured.mean, (pixels[rows] / 255).mean(axis=(0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(measured.std, (pixels[rows] / 255).std(axis=(0, 1, 2)), atol=1e-9)


def test_measuring_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    whole = measure(pictures(50), np.arange(50))
    monkeypatch.setattr("models.pixels.CHUNK", 200)
    assert measure(pictures(50), np.arange(50)) == whole


def test_a_constant_channel_does_not_divide_by_zero():
    pixels = pictures()
    pixels[..., 1] = 77
    statistics = measure(pixels, np.arange(7))
    out = Pixels(COLOUR, statistics)(torch.from_numpy(pixels))
    assert statistics.std[1] > 0
    assert out[:, 1].abs().max() < 1e-3
