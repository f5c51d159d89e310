"""Model FLOPs utilisation: the arithmetic that training needs, over what the device could do in the same time.

After https://arxiv.org/abs/2204.02311, appendix B. What is computed beyond need (again, or for the moving average's
validation) does not count; way back is taken as twice the way forward.
"""

import re
from collections.abc import Sequence

from torch import nn

from data.loader import TrainBatches, smaller
from data.spec import ImageSpec
from models.records import EpochRecord, FitSummary
from models.training.plan import behind

PASSES = 3  # way forward, and back to the activations and to the weights
# Words of a GPU's name -> dense bfloat16 TFLOP/s with float32 sums, from its maker's data sheet; narrower names first.
PEAKS: tuple[tuple[set[str], float], ...] = (
    ({"B200"}, 2250),
    ({"GH200"}, 989.4),
    ({"H200", "NVL"}, 835.5),
    ({"H200"}, 989.4),
    ({"H100", "PCIe"}, 756),
    ({"H100", "NVL"}, 835.5),
    ({"H100"}, 989.4),
    ({"A100"}, 312),
    ({"A40"}, 149.7),
    ({"A30"}, 165),
    ({"A10"}, 125),
    ({"A10G"}, 70),
    ({"L40S"}, 362.05),
    ({"L40"}, 181.05),
    ({"L4"}, 121),
    ({"6000", "Ada"}, 364.25),
    ({"A6000"}, 154.8),
    ({"5090"}, 209.5),
    ({"4090"}, 165.2),
    ({"3090"}, 71),
)
PARTLY = {"MIG", "Laptop", "Max", "D", "Ti"}  # a slice, or another chip of the same name


def peak_flops(device: str) -> float | None:
    """FLOP/s in dense bfloat16 of a device as `models.device.describe` names it; None where it is not known."""
    words = set(re.split(r"[^A-Za-z0-9]+", device))
    if words & PARTLY:
        return None
    return next((1e12 * peak for name, peak in PEAKS if name <= words), None)


def utilisation(speeds: Sequence[tuple[float, int]], *, peak: float) -> float:
    """Share of `peak` (FLOP/s) over epochs of equally many pictures; of each its pictures a second in training and the
    FLOPs of one picture's way forward."""
    needed = PASSES * sum(flops for _, flops in speeds)
    return needed / sum(1 / images_per_s for images_per_s, _ in speeds) / peak


def mostly_frozen(net: nn.Module) -> bool:
    """Whether most weights do not learn: the way back is then shorter than `PASSES` says, by how much depends on which
    they are."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in net.parameters()]
    return 2 * sum(size for size, learns in sizes if learns) < sum(size for size, _ in sizes)


def with_utilisation(
    summary: FitSummary,
    history: Sequence[EpochRecord],
    net: nn.Module,
    batches: TrainBatches,
    image: ImageSpec,
    *,
    devices: int = 1,
) -> FitSummary:
    """The summary with its utilisation, where the device's peak is known and the network learns, not its head alone.

    `summary.device` is one of so many `devices`; `images_per_s` in the history counts the pictures of all.
    """
    peak = peak_flops(summary.device)
    if peak is None or mostly_frozen(net):
        return summary
    from models.zoo.cost import cost  # late: its counter brings Triton, most of a second, which a start can do without

    full = cost(net, image).flops
    height, width = smaller(image)
    growing = batches.growing
    small = cost(net, image.model_copy(update={"height": height, "width": width})).flops if growing else full
    speeds = [
        (record.images_per_s, small if behind(record.epoch, summary.epochs_planned) < growing else full)
        for record in history
    ]
    return summary.model_copy(update={"utilisation": utilisation(speeds, peak=devices * peak)})
