"""Random changes to a batch of training pictures, on the device it is on.

Everywhere: pixels (B, H, W, C), uint8 or float of 0..255, in and out; what only moves pixels keeps the dtype, what
computes new ones returns float32. Every picture has its own random numbers, which come from the generator argument
alone; nothing loops over pictures and nothing waits for a GPU.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from data import policy
from data.drawing import rectangles, uniform
from data.errors import InputError
from data.mixing import mix, mix_weights
from data.preprocess import centre
from data.resample import resample
from data.spec import AugmentConfig, ImageSpec
from data.tone import grey as grey_of

CROP_SHARE = 8  # by default the random crop moves a picture by up to a side / CROP_SHARE
SHIFTED_SIDE = 16  # pixels; below it a shift by one cuts off what tells pictures apart
PHOTOGRAPH_SIDE = 48  # pixels; below it a zoom leaves too little to see
PHOTOGRAPH = {"zoom": 0.75, "rotate": 20.0, "color": 0.3, "mixup": 0.0, "cutmix": 0.0}
GROWING = 0.6  # share of the epochs
SMALL = dict.fromkeys(PHOTOGRAPH, 0.0)
IN_POLICY = dict.fromkeys(("rotate", "color"), 0.0)  # what a policy does itself
RAND = {"rand_operations": 2, "rand_magnitude": 9}
LOG_RATIO = math.log(4 / 3)  # aspect ratios of zoom
ERASE_AREA = (0.02, 0.25)  # of the picture
ERASE_LOG_RATIO = math.log(3)


def resolve(config: AugmentConfig, image: ImageSpec, *, mirror: bool, any_size: bool) -> AugmentConfig:
    """`config` with nothing left open.

    `mirror` says whether a mirrored picture keeps its class, `any_size` whether the network takes pictures of other
    sizes too. Raises `InputError` for what this network cannot do.

    Photographs, which have the pixels for it, are zoomed into and changed by TrivialAugment; small pictures are only
    shifted, tiny ones left alone. A policy turns and colours by itself. Nothing is mixed unless asked for.
    """
    if config.grow and not any_size:
        raise InputError(
            f"augment.grow {config.grow} needs a model that takes pictures of any size; use 0, or model.kind cnn"
        )
    side = min(image.height, image.width)
    photograph = side >= PHOTOGRAPH_SIDE
    changes = PHOTOGRAPH if photograph else SMALL
    named = config.policy or ("trivial" if photograph else "none")
    if named != "none":
        changes = {**changes, **IN_POLICY, **(RAND if named == "rand" else {})}
    asked = {name: value for name, value in config.model_dump().items() if value is not None}
    chosen = {**changes, "policy": named, "flip": mirror, "grow": GROWING if photograph and any_size else 0.0, **asked}
    crop = 0 if image.margin or chosen["zoom"] or side < SHIFTED_SIDE else side // CROP_SHARE
    return AugmentConfig.model_validate({"crop": crop, **chosen})


def augment(
    pixels: Tensor,
    labels: Tensor,
    config: AugmentConfig,
    image: ImageSpec,
    *,
    num_classes: int,
    generator: Generator,
    seen: tuple[int, int] | None = None,
    mirrored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Stored pictures (B, stored_height, stored_width, C) -> what the network trains on, (B, height, width, C).

    `seen` is another (height, width) that the same view is scaled to. `mirrored`, bool (B,), says which pictures are,
    if that is not left to chance.

    The targets are the labels, int64 (B,), or with mixup or cutmix their mixture, float32 (B, num_classes): both are
    what `torch.nn.functional.cross_entropy` takes. `config` comes from `resolve`.
    """
    whole = (image.height, image.width)
    drawn = None if config.policy in (None, "none") else policy.draw(config, whole, pixels, generator=generator)
    pixels = place(pixels, config, image, seen or whole, drawn=drawn, generator=generator, mirrored=mirrored)
    if config.color:
        pixels = color(pixels, strength=config.color, generator=generator)
    if drawn is not None:
        pixels = policy.tone(pixels, drawn)
    if config.erase:
        pixels = erase(pixels, probability=config.erase, generator=generator)
    targets = labels
    if config.mixup or config.cutmix:
        weight = mix_weights(pixels, mixup=config.mixup or 0.0, cutmix=config.cutmix or 0.0, generator=generator)
        pixels, targets = mix(pixels, labels, weight, num_classes=num_classes, generator=generator)
    return pixels, targets


def place(
    pixels: Tensor,
    config: AugmentConfig,
    image: ImageSpec,
    size: tuple[int, int],
    *,
    drawn: policy.Drawn | None,
    generator: Generator,
    mirrored: Tensor | None = None,
) -> Tensor:
    """All that only moves pixels, to `size` (height, width)."""
    if not config.zoom and (image.margin or config.crop):
        padded = pixels if image.margin else reflect(pixels, config.crop or 0)
        pixels = crop(padded, height=image.height, width=image.width, generator=generator)
    if config.zoom or config.rotate:
        share, degrees = config.zoom or 0.0, config.rotate or 0.0
        mirror: bool | Tensor = bool(config.flip) if mirrored is None else mirrored
        return zoom(pixels, size, share=share, degrees=degrees, mirror=mirror, generator=generator, drawn=drawn)
    if pixels.shape[1:3] != size:
        pixels = scale(pixels, size)
    if config.flip:
        pixels = flip(pixels, generator=generator, mirrored=mirrored)
    if drawn is not None:
        pixels = policy.move(pixels, drawn)
    return pixels


def reflect(pixels: Tensor, padding: int) -> Tensor:
    """`padding` mirrored pixels on each side, as many as there are; torch's own pad refuses uint8."""
    for dim in (1, 2):
        size = pixels.shape[dim]
        some = min(padding, size - 1)
        before = pixels.narrow(dim, 1, some).flip(dim)
        after = pixels.narrow(dim, size - 1 - some, some).flip(dim)
        pixels = torch.cat([before, pixels, after], dim)
    return pixels


def crop(pixels: Tensor, *, height: int, width: int, generator: Generator) -> Tensor:
    """A window of the given size at a random place of each picture."""
    num, full_height, full_width, channels = pixels.shape
    ys, xs = full_height - height + 1, full_width - width + 1
    top = (uniform(num, 0, 1, pixels, generator) * ys).long().clamp_(max=ys - 1)
    left = (uniform(num, 0, 1, pixels, generator) * xs).long().clamp_(max=xs - 1)
    pixels = pixels.contiguous()
    row = full_width * channels
    # All windows at once as a view, so that picking one copies whole rows instead of single pixels.
    windows = pixels.as_strided(
        (num, ys, xs, height, width * channels), (full_height * row, row, channels, row, 1), pixels.storage_offset()
    )
    picked = windows[torch.arange(num, device=pixels.device), top, left]
    return picked.view(num, height, width, channels)


def scale(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """To (height, width), each new pixel the mean of those it covers; float32."""
    planes = pixels.permute(0, 3, 1, 2).float()
    return F.interpolate(planes, size, mode="bilinear", antialias=True).permute(0, 2, 3, 1).contiguous()


def zoom(
    pixels: Tensor,
    size: tuple[int, int],
    *,
    share: float,
    degrees: float,
    generator: Generator,
    mirror: bool | Tensor = False,
    drawn: policy.Drawn | None = None,
) -> Tensor:
    """A random part of each stored picture, at least 1 - share of its area, turned by up to `degrees` either way and
    scaled to `size` (height, width) in the same sampling, with the moves of `drawn`; with `mirror` half of them
    mirrored, too, or those it names. float32, in planes. Beyond the border the picture goes on mirrored.
    """
    num = len(pixels)
    area = uniform(num, 1 - share, 1, pixels, generator)
    ratio = torch.exp(uniform(num, -LOG_RATIO, LOG_RATIO, pixels, generator) / 2)  # squared: tall over wide
    # Where the picture's border limits one side, the other takes over, so that the area is kept.
    tall = (area.sqrt() * ratio).clamp_(max=1)
    wide = (area / tall).clamp_(max=1)
    tall = area / wide
    y = uniform(num, -1, 1, pixels, generator) * (1 - tall)
    x = uniform(num, -1, 1, pixels, generator) * (1 - wide)
    angle = uniform(num, -1, 1, pixels, generator) * math.radians(degrees)
    lengthen = pixels.shape[1] / pixels.shape[2]  # height over width: coordinates run from -1 to 1 on both axes
    theta = torch.stack(
        [
            torch.stack([wide * angle.cos(), -tall * angle.sin() * lengthen, x], 1),
            torch.stack([wide * angle.sin() / lengthen, tall * angle.cos(), y], 1),
        ],
        dim=1,
    )
    if mirror is not False:
        which = heads(pixels, generator) if mirror is True else mirror
        theta[:, :, 0] *= torch.where(which, -1.0, 1.0)[:, None]
    return resample(pixels, size, view=theta, moved=None if drawn is None else policy.moves(drawn, size))


def flip(pixels: Tensor, *, generator: Generator, mirrored: Tensor | None = None) -> Tensor:
    """Half of the pictures mirrored left to right, or those that `mirrored`, bool (B,), names."""
    which = heads(pixels, generator) if mirrored is None else mirrored
    return torch.where(which.view(-1, 1, 1, 1), pixels.flip(2), pixels)


def heads(pixels: Tensor, generator: Generator) -> Tensor:
    """(B,) bool: a fair coin for each picture."""
    return uniform(len(pixels), 0, 1, pixels, generator) < 0.5


def erase(pixels: Tensor, *, probability: float, generator: Generator) -> Tensor:
    """A random rectangle in `probability` of the pictures takes the picture's mean colour, which tells nothing."""
    num = len(pixels)
    area = uniform(num, *ERASE_AREA, pixels, generator)
    ratio = torch.exp(uniform(num, -ERASE_LOG_RATIO, ERASE_LOG_RATIO, pixels, generator))
    hit = uniform(num, 0, 1, pixels, generator) < probability
    blank = rectangles(pixels, area, ratio, generator) & hit.view(-1, 1, 1, 1)
    mean = pixels[:, ::2, ::2].float().mean((1, 2), keepdim=True)  # every fourth pixel is enough for a mean
    return torch.where(blank, mean.to(pixels.dtype), pixels)


def color(pixels: Tensor, *, strength: float, generator: Generator) -> Tensor:
    """Brightness, contrast and saturation times factors from 1 - strength to 1 + strength each; float32, 0..255.

    Contrast is about the picture's mean grey. All three are one sum of pixel, grey and a constant, so they are taken
    together, in planes.
    """
    low, high = 1 - strength, 1 + strength
    brightness, contrast, saturation = (
        uniform(len(pixels), low, high, pixels, generator).view(-1, 1, 1, 1) for _ in range(3)
    )
    planes = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    if pixels.shape[3] == 1:
        saturation = torch.ones_like(saturation)
    grey = grey_of(planes.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, 1, H, W)
    rest = brightness * (1 - contrast) * grey.mean((2, 3), keepdim=True)
    strong = brightness * contrast
    planes.mul_(strong * saturation).add_(torch.addcmul(rest, grey, strong * (1 - saturation))).clamp_(0, 255)
    return planes.permute(0, 2, 3, 1)


def centre_view(pixels: Tensor, image: ImageSpec) -> Tensor:
    """Stored pictures -> what evaluation and serving see."""
    view: Tensor = centre(pixels, image)
    return view.contiguous()
