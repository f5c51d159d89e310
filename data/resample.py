"""Where every pixel of a moved picture comes from, and what is seen there: any affine map in one sampling.

Coordinates run from -1 to 1 from border to border on both axes, so a pixel's centre lies half a pixel within. What
comes out is seen as (B, H, W, C), and lies in memory plane by plane: what follows works on long rows then, which
a CPU does faster than on pixels of three values.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

FILL = 128.0  # grey; what a move uncovers


def resample(pixels: Tensor, size: tuple[int, int], *, view: Tensor | None, moved: Tensor | None) -> Tensor:
    """What `view` (B, 2, 3) shows of the pictures, then `moved` (B, 3, 3), in one sampling to `size`.

    pixels (B, H, W, C), uint8 or float -> float32 (B, *size, C), in planes. A view that looks beyond the border sees
    the picture mirrored; where a move uncovers what is not in view, FILL.
    """
    if moved is None:
        assert view is not None
        grid = places(view, size)
    else:
        grid = in_view = places(moved[:, :2], size)
        if view is not None:
            grid = places(view @ moved, size)
    planes = pixels.permute(0, 3, 1, 2).float()
    seen = F.grid_sample(planes, grid, padding_mode="reflection", align_corners=False).permute(0, 2, 3, 1)
    if moved is not None:
        seen = torch.where(in_view.abs().amax(3, keepdim=True) > 1, FILL, seen)
    return seen


def places(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """theta (B, 2, 3) -> (B, *size, 2), x before y: where each pixel comes from; as `affine_grid` says.

    That one multiplies matrices three numbers wide, and takes most of the time of the sampling itself; here a row and a
    column are added.
    """
    height, width = size
    x, y = centres(width, theta), centres(height, theta)
    along, down, offset = theta[:, :, None, None].unbind(4)  # (B, 2, 1, 1) each
    # Computed as two planes; seen as pairs.
    return (along * x + (down * y[:, None] + offset)).permute(0, 2, 3, 1)


def centres(count: int, like: Tensor) -> Tensor:
    """(count,): the middles of so many pixels between -1 and 1."""
    return (2 * torch.arange(count, device=like.device, dtype=like.dtype) + 1) / count - 1
