"""RandAugment and TrivialAugment: each operation does what Pillow does, and the generator decides the rest."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from pydantic import ValidationError
from torch import Generator, Tensor
from torch.nn import functional as F

from data import augment, policy
from data.policy import Drawn
from data.resample import FILL, places
from data.spec import AugmentConfig, ImageSpec
from data.tone import Operation as Op
from data.tone import retone, saturate, sharpen

ROUNDING = 1.01  # levels: Pillow cuts its results to whole ones
HEIGHT, WIDTH = 26, 34


def photographs(num: int = 6, channels: int = 3, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Smooth shapes, an edge and a little noise in every channel, not filling the range, as a camera's pictures."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / height
    pictures = []
    for _ in range(num):
        a, b, c, d = random.uniform(0.5, 4, (4, 1, 1, channels))
        wave = np.sin(a * x[..., None] * 3 + b) * np.cos(c * y[..., None] * 3 + d)
        edge = 40 * (x + random.uniform(0.5, 1) * y > 0.9)[..., None]
        pictures.append(90 + 60 * wave + edge + random.normal(0, 4, (height, width, channels)))
    return torch.from_numpy(np.stack(pictures).clip(10, 240).astype(np.uint8))


def same(operation: Op, amounts: list[float]) -> Drawn:
    return Drawn(torch.full((len(amounts), 1), int(operation)), torch.tensor(amounts)[:, None])


def changed(pixels: Tensor, drawn: Drawn) -> Tensor:
    return policy.tone(policy.move(pixels, drawn), drawn)


def by_pillow(pixels: Tensor, do: Callable[[Image.Image, float], Image.Image], amounts: list[float]) -> Tensor:
    answers = []
    for picture, amount in zip(pixels.numpy(), amounts, strict=True):
        answer = np.asarray(do(Image.fromarray(picture.squeeze()), amount))
        answers.append(answer.reshape(picture.shape))
    return torch.from_numpy(np.stack(answers)).float()


def affine(picture: Image.Image, *numbers: float) -> Image.Image:
    fill = tuple([int(FILL)] * len(picture.getbands()))
    return picture.transform(
        picture.size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR,
        fillcolor=fill if len(fill) > 1 else fill[0],
    )  # fmt: skip


def rotated(picture: Image.Image, degrees: float) -> Image.Image:
    fill = tuple([int(FILL)] * len(picture.getbands()))
    return picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill if len(fill) > 1 else fill[0])


SIGNED = [-0.9, -0.4, -0.1, 0.0, 0.5, 0.99]
PILLOW: dict[Op, tuple[Callable[[Image.Image, float], Image.Image], list[float]]] = {
    Op.IDENTITY: (lambda picture, _: picture, SIGNED),
    Op.SHEAR_X: (lambda picture, v: affine(picture, 1, v, 0, 0, 1, 0), SIGNED),
    Op.SHEAR_Y: (lambda picture, v: affine(picture, 1, 0, 0, v, 1, 0), SIGNED),
    Op.TRANSLATE_X: (lambda picture, v: affine(picture, 1, 0, v * WIDTH, 0, 1, 0), SIGNED),
    Op.TRANSLATE_Y: (lambda picture, v: affine(picture, 1, 0, 0, 0, 1, v * HEIGHT), SIGNED),
    Op.ROTATE: (rotated, [-135.0, -31.7, 0.0, 3.0, 89.0, 120.0]),
    Op.SATURATION: (lambda picture, v: ImageEnhance.Color(picture).enhance(1 + v), SIGNED),
    Op.SHARPNESS: (lambda picture, v: ImageEnhance.Sharpness(picture).enhance(1 + v), SIGNED),
    Op.BRIGHTNESS: (lambda picture, v: ImageEnhance.Brightness(picture).enhance(1 + v), SIGNED),
    Op.CONTRAST: (lambda picture, v: ImageEnhance.Contrast(picture).enhance(1 + v), SIGNED),
    Op.POSTERISE: (lambda picture, v: ImageOps.posterize(picture, 8 - round(v)), [0.0, 1.2, 2.0, 3.4, 5.0, 6.0]),
    Op.SOLARISE: (lambda picture, v: ImageOps.solarize(picture, 256 - v), [0.0, 1.0, 60.5, 128.0, 200.0, 256.0]),
    Op.AUTOCONTRAST: (lambda picture, _: ImageOps.autocontrast(picture), SIGNED),
    Op.EQUALISE: (lambda picture, _: ImageOps.equalize(picture), SIGNED),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", list(Op))
def test_each_operation_is_pillows(operation: Op, channels: int) -> None:
    do, amounts = PILLOW[operation]
    pixels = photographs(channels=channels)
    found = changed(pixels, same(operation, amounts))
    expected = by_pillow(pixels, do, amounts)
    # Pillow rounds what these two start from as well.
    tolerance = 2 * ROUNDING if operation in (Op.SATURATION, Op.SHARPNESS) else ROUNDING
    # At a border the two may round a place to either side of it, so a few pixels are filled in one of them only.
    differ = ((found - expected).abs() > tolerance).any(3).float().mean()
    moved = policy.MOVES[0] <= operation <= policy.MOVES[1]
    assert differ <= (0.005 if moved else 0)
    assert operation == Op.IDENTITY or channels == 1 or (found - pixels).abs().max() > 1, "nothing was done"


def test_saturation_all_the_way_down_is_grey() -> None:
    pixels = photographs()
    found = changed(pixels, same(Op.SATURATION, [-1.0] * 6))
    expected = by_pillow(pixels, lambda picture, _: ImageOps.grayscale(picture).convert("RGB"), [0] * 6)
    assert (found - expected).abs().max() < ROUNDING
    single = photographs(channels=1)
    assert torch.equal(changed(single, same(Op.SATURATION, [-1.0] * 6)), single.float())


@pytest.mark.parametrize("operation", [Op.AUTOCONTRAST, Op.EQUALISE])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_picture_of_one_colour_stays(operation: Op, value: int) -> None:
    pixels = torch.full((2, 9, 9, 3), value, dtype=torch.uint8)
    assert torch.equal(changed(pixels, same(operation, [0.0, 0.0])), pixels.float())


@pytest.mark.parametrize("operation", [Op.AUTOCONTRAST, Op.EQUALISE])
@pytest.mark.parametrize("height", [2, 16, 150])
def test_histograms_of_any_size_and_shape_are_pillows(operation: Op, height: int) -> None:
    random = torch.Generator().manual_seed(0)
    pixels = (torch.randn(3, height, 20, 3, generator=random) * 20 + 60).clamp(0, 255).to(torch.uint8)
    pixels[0] //= 40  # few levels
    expected = by_pillow(pixels, PILLOW[operation][0], [0] * 3)
    assert (changed(pixels, same(operation, [0.0] * 3)) - expected).abs().max() < ROUNDING


def test_operations_follow_each_other_and_moves_come_first() -> None:
    pixels = photographs(num=1)
    drawn = Drawn(
        torch.tensor([[Op.SOLARISE, Op.ROTATE, Op.BRIGHTNESS, Op.SHEAR_Y]]), torch.tensor([[120.0, 20.0, 0.4, -0.2]])
    )
    picture = rotated(Image.fromarray(pixels[0].numpy()), 20)
    picture = affine(picture, 1, 0, 0, -0.2, 1, 0)
    picture = ImageEnhance.Brightness(ImageOps.solarize(picture, 256 - 120)).enhance(1.4)
    difference = (changed(pixels, drawn)[0] - torch.tensor(np.array(picture)).float()).abs()
    assert difference.median() < 4, "sampled once instead of twice: a little sharper"


@pytest.mark.slow
@settings(max_examples=40)
@given(
    num=st.integers(1, 9),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([1, 3]),
    chosen=st.sampled_from(
        [
            AugmentConfig(policy="trivial"),
            AugmentConfig(policy="rand"),
            AugmentConfig(policy="rand", rand_operations=5, rand_magnitude=30, zoom=0.5),
            AugmentConfig(policy="trivial", zoom=0.4, rotate=90, erase=1, color=1, mixup=1),
        ]
    ),
)
def test_shape_and_range_hold(num: int, size: tuple[int, int], channels: int, chosen: AugmentConfig) -> None:
    image = ImageSpec(height=size[0], width=size[1], channels=channels)
    config = augment.resolve(chosen, image, mirror=True, any_size=True)
    pixels = torch.randint(0, 256, (num, *size, channels), dtype=torch.uint8, generator=seeded())
    seen, _ = augment.augment(pixels, torch.zeros(num).long(), config, image, num_classes=2, generator=seeded())
    assert seen.shape == pixels.shape
    assert torch.isfinite(seen).all()
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 255


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["trivial", "rand"])
def test_a_picture_does_not_depend_on_its_neighbours(name: str) -> None:
    pixels = photographs(num=60)
    config = augment.resolve(AugmentConfig(policy=name), ImageSpec(height=26, width=34), mirror=True, any_size=True)
    drawn = policy.draw(config, (HEIGHT, WIDTH), pixels, generator=seeded())
    together = changed(pixels, drawn)
    for i in range(len(pixels)):
        alone = changed(pixels[i : i + 1], Drawn(*(values[i : i + 1] for values in drawn)))
        assert torch.equal(alone[0], together[i])
    assert torch.equal(pixels, photographs(num=60)), "the pictures given were changed"


@pytest.mark.parametrize("change", [saturate, sharpen, retone])
def test_computing_all_pictures_or_those_needed_is_the_same(change: Callable[..., Tensor]) -> None:
    pixels = photographs(num=28).float()
    needed = torch.arange(28) % 3 == 0
    arguments = [torch.linspace(0, 0.9, 28)]
    if change is retone:
        arguments.insert(0, torch.arange(28) % 14)
    on_a_gpu = policy.where(pixels, needed, change, *arguments)
    assert torch.equal(policy.where_needed(pixels.clone(), needed, change, *arguments), on_a_gpu)
    assert torch.equal(on_a_gpu[~needed], pixels[~needed])
    assert not torch.equal(on_a_gpu, pixels)


def test_every_operation_and_strength_comes_as_often() -> None:
    config = AugmentConfig(policy="trivial")
    which, amount = policy.draw(config, (64, 64), torch.empty(14_000, 1), generator=seeded())
    assert which.shape == (14_000, 1)
    counts = torch.bincount(which.flatten(), minlength=14)
    assert ((counts - 1000).abs() < 150).all()
    turned = amount[which == Op.ROTATE]
    assert turned.abs().max() <= 135
    assert turned.min() < -125
    assert abs(float(turned.mean())) < 15
    assert abs(float(turned.abs().mean()) - 135 / 2) < 8
    assert amount[which == Op.TRANSLATE_X].abs().max() <= 32 / 64
    assert amount[which == Op.POSTERISE].min() >= 0


def test_rand_augment_draws_n_operations_of_one_strength() -> None:
    config = AugmentConfig(policy="rand", rand_operations=3, rand_magnitude=15)
    which, amount = policy.draw(config, (64, 64), torch.empty(2_000, 1), generator=seeded())
    assert which.shape == (2_000, 3)
    assert set(amount[which == Op.ROTATE].tolist()) == {-15.0, 15.0}
    assert set(amount[which == Op.POSTERISE].tolist()) == {2.0}
    assert set(amount[which == Op.SOLARISE].tolist()) == {128.0}
    strength = amount[which == Op.TRANSLATE_Y].abs()
    assert torch.allclose(strength, torch.full_like(strength, 150 / 331 / 2))


def test_a_translation_of_small_pictures_leaves_no_more_than_nothing() -> None:
    assert float(policy.reaches("trivial", (8, 40), torch.device("cpu"))[Op.TRANSLATE_Y]) == 1
    assert float(policy.reaches("trivial", (8, 40), torch.device("cpu"))[Op.TRANSLATE_X]) == pytest.approx(32 / 40)


@pytest.mark.parametrize("config", [AugmentConfig(policy="trivial"), AugmentConfig(policy="rand", rand_operations=2)])
def test_the_generator_alone_decides(config: AugmentConfig) -> None:
    image = ImageSpec(height=HEIGHT, width=WIDTH)
    config, pixels = augment.resolve(config, image, mirror=True, any_size=True), photographs(num=20)

    def once(seed: int) -> Tensor:
        return augment.augment(pixels, torch.zeros(20).long(), config, image, num_classes=2, generator=seeded(seed))[0]

    torch.manual_seed(1)
    first = once(0)
    torch.manual_seed(2)
    assert torch.equal(once(0), first)
    assert not torch.equal(once(1), first)


def test_moves_and_zoom_are_one_sampling_of_the_stored_picture() -> None:
    """A picture whose pixels say where they are, linear in both: sampled once or twice, the same."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    pixels = torch.stack([y, x, y + x], 2)[None].expand(32, -1, -1, -1)
    drawn = Drawn(torch.full((32, 1), int(Op.ROTATE)), torch.linspace(-40, 40, 32)[:, None])
    zoomed = augment.zoom(pixels, (32, 32), share=0.5, degrees=0, generator=seeded())
    expected = policy.move(zoomed, drawn)
    found = augment.zoom(pixels, (32, 32), share=0.5, degrees=0, generator=seeded(), drawn=drawn)
    middle = slice(10, 22)  # at the border of the view one of them takes what lies beyond
    assert (found - expected)[:, middle, middle].abs().max() < 0.05
    assert torch.equal(found == FILL, expected == FILL)


def test_the_places_are_those_of_affine_grid() -> None:
    theta = torch.randn(5, 2, 3, generator=seeded())
    for size in ((9, 12), (1, 7), (128, 96)):
        assert torch.allclose(places(theta, size), F.affine_grid(theta, [5, 1, *size], align_corners=False), atol=1e-5)


def test_a_policy_turns_and_colours_by_itself() -> None:
    photograph = ImageSpec(height=128, width=128)

    def resolved(**chosen: object) -> AugmentConfig:
        return augment.resolve(AugmentConfig(**chosen), photograph, mirror=True, any_size=True)

    plain, rand = resolved(policy="none"), resolved(policy="rand")
    assert (plain.policy, plain.rand_operations, plain.rand_magnitude) == ("none", None, None)
    assert resolved() == resolved(policy="trivial")
    assert (rand.rotate, rand.color, rand.zoom) == (0, 0, plain.zoom)
    assert (rand.rand_operations, rand.rand_magnitude) == (2, 9)
    assert resolved(policy="trivial", rotate=5).rotate == 5
    assert resolved(policy="rand", rand_magnitude=4).rand_magnitude == 4


@pytest.mark.parametrize("name", ["none", "trivial"])
def test_numbers_of_another_policy_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"mean nothing to policy {name}; set augment.policy to rand"):
        AugmentConfig(policy=name, rand_magnitude=9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_does_the_same_and_is_not_waited_for() -> None:
    pixels = photographs(num=64)
    config = AugmentConfig(policy="rand", rand_operations=2, rand_magnitude=20)
    drawn = policy.draw(config, (HEIGHT, WIDTH), pixels, generator=seeded())
    there = Drawn(*(values.cuda() for values in drawn))
    found = changed(pixels.cuda(), there)  # also fills what is kept
    generator = Generator("cuda").manual_seed(0)
    policy.draw(config, (HEIGHT, WIDTH), pixels.cuda(), generator=generator)
    assert ((found.cpu() - changed(pixels, drawn)).abs() > ROUNDING).float().mean() < math.exp(-7)
    on_gpu = pixels.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        changed(on_gpu, policy.draw(config, (HEIGHT, WIDTH), on_gpu, generator=generator))
    finally:
        torch.cuda.set_sync_debug_mode("default")
