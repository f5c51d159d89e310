"""RandAugment (https://arxiv.org/abs/1909.13719) and TrivialAugment (https://arxiv.org/abs/2103.10158), in batches.

Every picture draws its own operations, strengths and signs. Departures from the papers: all moves of a picture come
first, as one resampling, and the other operations follow in the order drawn; TrivialAugment's strengths are not only
31 levels, its 32 pixels of translation are at most the side; pixels are bilinear, and what lies outside is grey.

Pixels (B, H, W, C) of 0..255. On a CPU only the pictures that drew an operation are computed; a GPU, which would
have to be waited for to know them, computes all.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from data.drawing import uniform
from data.resample import resample
from data.spec import AugmentConfig
from data.tone import Operation, retone, saturate, sharpen

MOST = 30  # of RandAugment's magnitude
TRIVIAL_SHIFT = 32  # pixels
MOVES = (Operation.SHEAR_X, Operation.ROTATE)  # from, to
SIGNED = (Operation.SHEAR_X, Operation.CONTRAST)  # from, to: these go either way


class Drawn(NamedTuple):
    """(B, N) each: N operations for every picture, first to last, and how much of each, in its own unit.

    Shear: pixels per pixel; translation: shares of the side; rotation: degrees; the rest as `data.tone` says.
    """

    operation: Tensor  # int64
    amount: Tensor  # float32


def draw(config: AugmentConfig, size: tuple[int, int], like: Tensor, *, generator: Generator) -> Drawn:
    """`size` (height, width) is that of whole pictures, in which pixels of translation are counted."""
    num, slots = len(like), config.rand_operations or 1
    shape = (num, slots)
    drawn = uniform(num * slots, 0, len(Operation), like, generator).long().clamp_(max=len(Operation) - 1).view(shape)
    strength = uniform(num * slots, 0, 1, like, generator).view(shape)
    if config.policy == "rand":
        strength = torch.full_like(strength, (config.rand_magnitude or 0) / MOST)
    sign = torch.where(uniform(num * slots, 0, 1, like, generator) < 0.5, -1.0, 1.0).view(shape)
    signed = (drawn >= SIGNED[0]) & (drawn <= SIGNED[1])
    reach = reaches(config.policy, size, like.device)
    return Drawn(drawn, reach[drawn] * strength * torch.where(signed, sign, 1.0))


@lru_cache(maxsize=8)
def reaches(policy: Literal["none", "trivial", "rand"], size: tuple[int, int], device: torch.device) -> Tensor:
    """(14,) float32: the amount of each operation at full strength; kept, because a GPU waits for what comes to it."""
    height, width = size
    if policy == "rand":
        shear, degrees, factor, bits = 0.3, 30.0, 0.9, 4.0
        shift_x = shift_y = 150 / 331
    else:
        shear, degrees, factor, bits = 0.99, 135.0, 0.99, 6.0
        shift_x, shift_y = min(1.0, TRIVIAL_SHIFT / width), min(1.0, TRIVIAL_SHIFT / height)
    amounts = dict.fromkeys(Operation, 0.0)
    amounts |= dict.fromkeys((Operation.SHEAR_X, Operation.SHEAR_Y), shear)
    amounts |= {Operation.TRANSLATE_X: shift_x, Operation.TRANSLATE_Y: shift_y, Operation.ROTATE: degrees}
    amounts |= dict.fromkeys(list(Operation)[Operation.SATURATION : Operation.POSTERISE], factor)
    amounts |= {Operation.POSTERISE: bits, Operation.SOLARISE: 256.0}
    return torch.tensor(list(amounts.values()), device=device)


def moves(drawn: Drawn, size: tuple[int, int]) -> Tensor:
    """(B, 3, 3): where each place of the moved picture was, in coordinates from -1 to 1 on both axes.

    Pictures shear about their upper left corner, as in the papers, and turn about the middle.
    """
    tall = size[0] / size[1]
    which, amount = drawn

    def of(operation: Operation) -> Tensor:
        return torch.where(which == operation, amount, 0.0)

    angle = torch.deg2rad(of(Operation.ROTATE))
    right, down = of(Operation.SHEAR_X) * tall, of(Operation.SHEAR_Y) / tall
    nothing, cos, sin = torch.zeros_like(angle), angle.cos(), angle.sin()
    # At most one of the operations is there, the others are zero: so their sum is that one.
    steps = torch.stack(
        [
            torch.stack([cos, right - sin * tall, right + 2 * of(Operation.TRANSLATE_X)], 2),
            torch.stack([down + sin / tall, cos, down + 2 * of(Operation.TRANSLATE_Y)], 2),
            torch.stack([nothing, nothing, nothing + 1], 2),
        ],
        dim=2,
    )  # (B, N, 3, 3)
    whole = steps[:, 0]
    for slot in range(1, steps.shape[1]):
        whole = whole @ steps[:, slot]  # what is moved last is looked up first
    return whole


def move(pixels: Tensor, drawn: Drawn) -> Tensor:
    """The pictures sheared, shifted and turned; float32, their size kept."""
    size = (pixels.shape[1], pixels.shape[2])
    which = drawn.operation
    needed = ((which >= MOVES[0]) & (which <= MOVES[1])).any(1)

    def moved(some: Tensor, matrices: Tensor) -> Tensor:
        return resample(some, size, view=None, moved=matrices)

    return where_needed(pixels.to(torch.float32, copy=True), needed, moved, moves(drawn, size))


def tone(pixels: Tensor, drawn: Drawn) -> Tensor:
    """The operations that move nothing, in their order; float32."""
    values = pixels.to(torch.float32, copy=True)
    for which, amount in zip(drawn.operation.unbind(1), drawn.amount.unbind(1), strict=True):
        values = where_needed(values, which >= Operation.BRIGHTNESS, retone, which, amount)
        values = where_needed(values, which == Operation.SATURATION, saturate, amount)
        values = where_needed(values, which == Operation.SHARPNESS, sharpen, amount)
    return values


def where_needed(values: Tensor, needed: Tensor, change: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """`change(values, *arguments)` of the pictures in `needed` (B,) bool, the others as they are; may work in place."""
    if values.device.type != "cpu":
        return where(values, needed, change, *arguments)
    rows = needed.nonzero().squeeze(1)
    if len(rows):
        values[rows] = change(values[rows], *(argument[rows] for argument in arguments))
    return values


def where(values: Tensor, needed: Tensor, change: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """The same, and without a look at `needed` from outside the device."""
    return torch.where(needed.view(-1, 1, 1, 1), change(values, *arguments), values)
