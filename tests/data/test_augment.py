"""Augmentation: what may change does, what may not does not, and the generator decides it all."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.nn import functional as F

from data import augment, drawing, mixing
from data.errors import InputError
from data.spec import AugmentConfig, ImageSpec

PLAIN = AugmentConfig(crop=0, flip=False)
EVERYTHING = AugmentConfig(crop=2, zoom=0.3, rotate=30, flip=True, erase=0.5, color=0.4, mixup=0.2, cutmix=1.0)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def noise(num: int, height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (num, height, width, channels), dtype=torch.uint8, generator=seeded(seed))


def places(num: int, height: int, width: int) -> Tensor:
    """Pictures whose pixels say where they are: channel 0 the row, channel 1 the column, channel 2 the picture."""
    n, y, x = torch.meshgrid(torch.arange(num), torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([y, x, n], 3).to(torch.uint8)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    num=st.integers(1, 9),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([1, 3]),
    margin=st.integers(0, 3),
    chosen=st.fixed_dictionaries(
        {
            "crop": st.sampled_from([None, 0, 3]),
            "zoom": st.sampled_from([0.0, 0.4]),
            "rotate": st.sampled_from([0.0, 180.0]),
            "flip": st.booleans(),
            "erase": st.sampled_from([0.0, 1.0]),
            "color": st.sampled_from([0.0, 1.0]),
            "mixup": st.sampled_from([0.0, 0.2]),
            "cutmix": st.sampled_from([0.0, 1.0]),
        }
    ),
)
def test_shape_range_and_targets_hold_for_any_choice(num, size, channels, margin, chosen):
    image = ImageSpec(height=size[0], width=size[1], channels=channels, margin=margin)
    config = augment.resolve(AugmentConfig(**chosen), image, mirror=True, any_size=True)
    stored = noise(num, image.stored_height, image.stored_width, channels)
    labels = torch.arange(num) % 4
    pixels, targets = augment.augment(stored, labels, config, image, num_classes=4, generator=seeded())
    assert pixels.shape == (num, *size, channels)
    assert pixels.dtype in (torch.uint8, torch.float32)
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 255
    if chosen["mixup"] or chosen["cutmix"]:
        assert targets.shape == (num, 4)
        assert torch.allclose(targets.sum(1), torch.ones(num))
        assert (targets >= 0).all()
    else:
        assert torch.equal(targets, labels)
    assert torch.isfinite(F.cross_entropy(torch.zeros(num, 4), targets))


@pytest.mark.parametrize("margin", [0, 4])
def test_the_generator_alone_decides(margin):
    image = ImageSpec(height=16, width=16, margin=margin)
    stored, labels = noise(8, image.stored_height, image.stored_width), torch.arange(8)

    def once(seed: int) -> tuple[Tensor, Tensor]:
        return augment.augment(stored, labels, EVERYTHING, image, num_classes=8, generator=seeded(seed))

    torch.manual_seed(1)
    first = once(0)
    torch.manual_seed(2)
    again, other = once(0), once(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(stored, noise(8, image.stored_height, image.stored_width)), "the stored pictures were changed"


def test_nothing_asked_for_changes_nothing():
    image = ImageSpec(height=12, width=10)
    pixels = noise(5, 12, 10)
    same, labels = augment.augment(pixels, torch.arange(5), PLAIN, image, num_classes=5, generator=seeded())
    assert torch.equal(same, pixels)
    assert torch.equal(labels, torch.arange(5))


def test_open_choices_are_made_from_the_data():
    plain, margin = ImageSpec(height=32, width=32), ImageSpec(height=32, width=32, margin=4)
    assert augment.resolve(AugmentConfig(), plain, mirror=True, any_size=True).crop == 4
    assert augment.resolve(AugmentConfig(), margin, mirror=True, any_size=True).crop == 0
    assert augment.resolve(AugmentConfig(), ImageSpec(height=8, width=8), mirror=True, any_size=True).crop == 0
    assert augment.resolve(AugmentConfig(), plain, mirror=True, any_size=True).flip is True
    assert augment.resolve(AugmentConfig(), plain, mirror=False, any_size=True).flip is False
    kept = augment.resolve(AugmentConfig(flip=True, crop=2, mixup=0.3), plain, mirror=False, any_size=True)
    assert (kept.flip, kept.crop, kept.mixup) == (True, 2, 0.3)


def test_photographs_are_zoomed_into_and_mixed_and_small_pictures_are_not():
    small = augment.resolve(AugmentConfig(), ImageSpec(height=32, width=32), mirror=True, any_size=True)
    assert (small.zoom, small.color, small.mixup, small.cutmix) == (0, 0, 0, 0)
    photograph = augment.resolve(AugmentConfig(), ImageSpec(height=128, width=128), mirror=True, any_size=True)
    assert (photograph.policy, small.policy) == ("trivial", "none")
    assert photograph.zoom > 0
    assert (photograph.mixup, photograph.cutmix) == (0, 0)
    coloured = augment.resolve(
        AugmentConfig(policy="none"), ImageSpec(height=128, width=128), mirror=True, any_size=True
    )
    assert min(coloured.color, coloured.rotate) > 0
    assert photograph.crop == 0
    assert (
        augment.resolve(AugmentConfig(zoom=0.0), ImageSpec(height=128, width=128), mirror=True, any_size=True).crop
        == 16
    )


def test_a_crop_without_room_is_the_picture():
    pixels = noise(6, 9, 7)
    assert torch.equal(augment.crop(pixels, height=9, width=7, generator=seeded()), pixels)
    assert torch.equal(augment.reflect(pixels, 0), pixels)


def test_a_crop_is_a_window_and_every_window_comes():
    pixels = places(400, 6, 7)
    cut = augment.crop(pixels, height=4, width=4, generator=seeded()).long()
    top, left = cut[:, 0, 0, 0], cut[:, 0, 0, 1]
    assert torch.equal(cut[..., 0] - top.view(-1, 1, 1), torch.arange(4).view(1, 4, 1).expand(400, 4, 4))
    assert torch.equal(cut[..., 1] - left.view(-1, 1, 1), torch.arange(4).view(1, 1, 4).expand(400, 4, 4))
    assert torch.equal(cut[:, 0, 0, 2], torch.arange(400) % 256)
    assert len(set(zip(top.tolist(), left.tolist(), strict=True))) == 3 * 4


def test_a_crop_of_a_view_is_right_too():
    wide = places(4, 8, 8)
    view = wide[1:, 2:, 1:]
    cut = augment.crop(view, height=6, width=7, generator=seeded())
    assert torch.equal(cut, view)


@given(padding=st.integers(0, 12), size=st.integers(1, 9))
@settings(max_examples=30)
def test_padding_mirrors_as_numpy_does(padding, size):
    pixels = noise(2, size, size + 1)
    some = min(padding, size - 1), min(padding, size)
    expected = np.pad(pixels.numpy(), ((0, 0), (some[0],) * 2, (some[1],) * 2, (0, 0)), mode="reflect")
    assert np.array_equal(augment.reflect(pixels, padding).numpy(), expected)


def test_a_flip_undoes_itself_and_takes_half():
    pixels = noise(400, 3, 5)
    once = augment.flip(pixels, generator=seeded())
    assert torch.equal(augment.flip(once, generator=seeded()), pixels)
    changed = (once != pixels).flatten(1).any(1)
    assert torch.equal(once[changed], pixels[changed].flip(2))
    assert 150 < int(changed.sum()) < 250


def test_a_zoom_of_nearly_nothing_is_the_picture():
    smooth = places(3, 12, 12) * 20
    seen = augment.zoom(smooth, (12, 12), share=1e-6, degrees=0, generator=seeded())
    assert (seen - smooth).abs().max() < 0.1


def test_a_zoom_mirrors_half_in_the_same_sampling():
    pixels = places(400, 9, 12)
    plain = augment.zoom(pixels, (9, 12), share=0.0, degrees=0, generator=seeded())
    seen = augment.zoom(pixels, (9, 12), share=0.0, degrees=0, mirror=True, generator=seeded())
    mirrored = (seen - plain).abs().flatten(1).amax(1) > 0.5
    assert torch.allclose(seen[mirrored], plain[mirrored].flip(2), atol=1e-3)
    assert torch.allclose(seen[~mirrored], plain[~mirrored], atol=1e-3)
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_is_saturation_then_contrast_then_brightness(channels):
    pixels = noise(16, 9, 12, channels)
    seen = augment.color(pixels, strength=0.6, generator=seeded())
    generator = seeded()
    factors = [drawing.uniform(16, 0.4, 1.6, pixels, generator).view(-1, 1, 1, 1) for _ in range(3)]
    brightness, contrast, saturation = factors
    values = pixels.float()
    grey = (values * torch.tensor((0.299, 0.587, 0.114) if channels == 3 else (1.0,))).sum(3, keepdim=True)
    if channels == 3:
        values = torch.lerp(grey, values, saturation)
    expected = torch.lerp(grey.mean((1, 2), keepdim=True), values, contrast) * brightness
    assert torch.allclose(seen, expected.clamp(0, 255), atol=1e-3)


@pytest.mark.slow
@given(share=st.floats(0.01, 0.9), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_zoom_shows_at_least_the_promised_share(share, seed):
    seen = augment.zoom(places(32, 64, 64), (64, 64), share=share, degrees=0, generator=seeded(seed))
    tall = (seen[:, -1, 0, 0] - seen[:, 0, 0, 0] + 2) / 64  # half a pixel is cut from each side
    wide = (seen[:, 0, -1, 1] - seen[:, 0, 0, 1] + 2) / 64
    assert (tall * wide >= (1 - share) * 0.98).all()


@given(height=st.integers(16, 48), width=st.integers(16, 48), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_rotation_turns_about_the_middle_and_keeps_lengths(height, width, seed):
    seen = augment.zoom(places(4, height, width), (height, width), share=0, degrees=30, generator=seeded(seed))
    y, x = height // 2, width // 2
    middle = (seen[:, y - 1 : y + 1, x - 1 : x + 1, :2]).mean((1, 2))
    expected = places(1, height, width)[0, y - 1 : y + 1, x - 1 : x + 1, :2].float().mean((0, 1))
    if height % 2 == 0 and width % 2 == 0:
        assert torch.allclose(middle, expected.expand_as(middle), atol=1e-3)
    down = seen[:, y + 1, x, :2] - seen[:, y, x, :2]  # one pixel down is one pixel long, wherever it points
    right = seen[:, y, x + 1, :2] - seen[:, y, x, :2]
    assert torch.allclose(down.norm(dim=1), torch.ones(4), atol=1e-3)
    assert torch.allclose((down * right).sum(1), torch.zeros(4), atol=1e-3)
    assert (torch.atan2(right[:, 0], right[:, 1]).abs() <= math.radians(30) + 1e-3).all()


def test_rotated_pictures_with_a_margin_keep_their_scale():
    image = ImageSpec(height=24, width=24, margin=4)
    config = AugmentConfig(crop=0, zoom=0.0, rotate=0.001, flip=False, color=0.0, mixup=0.0, cutmix=0.0)
    seen, _ = augment.augment(
        places(4, 32, 32), torch.zeros(4).long(), config, image, num_classes=2, generator=seeded()
    )
    assert torch.allclose(seen[:, 13, 12, 0] - seen[:, 12, 12, 0], torch.ones(4), atol=1e-2)


def test_a_smaller_view_shows_the_same_part():
    image = ImageSpec(height=24, width=24)
    config = AugmentConfig(crop=0, zoom=0.0, rotate=0.0, flip=False, color=0.0, mixup=0.0, cutmix=0.0)
    stored = places(4, 24, 24)
    seen, _ = augment.augment(
        stored, torch.zeros(4).long(), config, image, num_classes=2, generator=seeded(), seen=(12, 12)
    )
    assert seen.shape == (4, 12, 12, 3)
    assert torch.allclose(seen.mean((1, 2)), stored.float().mean((1, 2)), atol=0.1)


def test_a_model_of_one_size_is_not_made_to_grow():
    photograph = ImageSpec(height=128, width=128)
    assert augment.resolve(AugmentConfig(), photograph, mirror=True, any_size=True).grow
    assert augment.resolve(AugmentConfig(), photograph, mirror=True, any_size=False).grow == 0
    with pytest.raises(InputError, match=r"augment.grow 0.5 needs a model that takes pictures of any size"):
        augment.resolve(AugmentConfig(grow=0.5), photograph, mirror=True, any_size=False)


def test_erasing_blanks_one_rectangle_with_the_mean():
    pixels = noise(200, 16, 16)
    seen = augment.erase(pixels, probability=1, generator=seeded())
    changed = (seen != pixels).any(3)
    for picture, mask in zip(seen, changed, strict=True):
        if mask.any():
            assert len(picture[mask].unique(dim=0)) == 1
    assert 0.02 < float(changed.float().mean()) < 0.25
    assert torch.equal(augment.erase(pixels, probability=0, generator=seeded()), pixels)
    hit = (augment.erase(pixels, probability=0.5, generator=seeded()) != pixels).flatten(1).any(1)
    assert 60 < int(hit.sum()) < 140


def test_colour_leaves_grey_pictures_grey_and_strength_zero_leaves_all():
    grey = noise(8, 6, 6, 1).expand(-1, -1, -1, 3)
    seen = augment.color(grey, strength=0.8, generator=seeded())
    assert (seen.max(3).values - seen.min(3).values).max() < 1e-3
    pixels = noise(8, 6, 6)
    assert (augment.color(pixels, strength=0, generator=seeded()) - pixels).abs().max() < 1e-3
    assert (
        len(augment.color(torch.full((50, 4, 4, 3), 100), strength=0.5, generator=seeded())[:, 0, 0, 0].unique()) > 40
    )


def test_mixup_mixes_pixels_and_targets_alike():
    labels = torch.arange(64) % 2
    pixels = (labels * 200).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 4, 4, 3)
    for chosen in ({"mixup": 1.0, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}):
        generator = seeded()
        weight = mixing.mix_weights(pixels, **chosen, generator=generator)
        mixed, targets = mixing.mix(pixels, labels, weight, num_classes=2, generator=generator)
        assert torch.allclose(mixed.mean((1, 2, 3)) / 200, targets[:, 1], atol=1e-5), chosen
        assert 0.1 < float(targets[:, 1].mean()) < 0.9


def test_cutmix_keeps_or_replaces_each_pixel_whole():
    weight = mixing.mix_weights(noise(32, 8, 8), mixup=0.0, cutmix=1.0, generator=seeded())
    assert set(weight.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha):
    drawn = drawing.beta(20_000, alpha, torch.empty(0), seeded())
    assert abs(float(drawn.mean()) - 0.5) < 0.01
    assert abs(float(drawn.var()) - 1 / (4 * (2 * alpha + 1))) < 0.005
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1


def test_the_quantiles_of_mixing_are_brought_to_a_device_once():
    there = torch.device("meta")
    first = drawing.beta_quantiles(0.2, there)
    assert first.device == there
    assert drawing.beta_quantiles(0.2, there) is first


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_keeps_the_promises_too():
    image = ImageSpec(height=16, width=16, margin=2)
    stored = noise(8, 20, 20).cuda()
    generator = Generator("cuda").manual_seed(0)
    pixels, targets = augment.augment(
        stored, torch.arange(8).cuda(), EVERYTHING, image, num_classes=8, generator=generator
    )
    assert pixels.is_cuda
    assert pixels.shape == (8, 16, 16, 3)
    assert torch.allclose(targets.sum(1), torch.ones(8, device="cuda"))
