"""A batch in parts, and a batch as large as fits."""

import pytest
import torch
from torch import Tensor, nn

from data.errors import InputError
from models.config import TrainConfig
from models.training.config import BinaryConfig, CrossEntropyConfig, FocalConfig, LossConfig, SGDConfig
from models.training.optim import build_optimizer
from models.training.step import train_step
from models.training.trial import choose_batch_size, fits_memory, largest

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def network() -> nn.Module:
    """No batch norm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))


def batch(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 2, 2, 3, generator=generator), torch.arange(size) % 3


def stepped(size: int, **settings: object) -> tuple[list[Tensor], list[float]]:
    net = network()
    pixels, targets = batch(size)
    config = TrainConfig(**{"precision": "float32"} | settings)
    weights = torch.tensor([0.5, 1.0, 2.0])
    seen = []
    optimizer = build_optimizer(net, SGDConfig(lr=0.1))
    for _ in range(3):
        seen += train_step(net, optimizer, pixels, targets, config=config, class_weights=weights).tolist()
    return [p.detach() for p in net.parameters()], seen


@pytest.mark.parametrize("loss", [CrossEntropyConfig(), FocalConfig(), BinaryConfig()], ids=lambda loss: loss.kind)
@pytest.mark.parametrize(("size", "parts"), [(8, 2), (8, 8), (7, 3), (3, 5)], ids=str)
def test_the_parts_of_a_batch_make_the_step_of_the_whole(size: int, parts: int, loss: LossConfig):
    whole, told = stepped(size, loss=loss)
    in_parts, told_in_parts = stepped(size, loss=loss, accumulate=parts)
    for one, other in zip(whole, in_parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert told_in_parts == pytest.approx(told, rel=1e-5)


def test_the_network_sees_no_more_than_a_part():
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.sizes = network(), []

        def forward(self, pixels: Tensor) -> Tensor:
            self.sizes.append(len(pixels))
            return self.inner(pixels)

    net = Watched()
    train_step(net, build_optimizer(net, SGDConfig()), *batch(10), config=TrainConfig(accumulate=4))
    train_step(net, build_optimizer(net, SGDConfig()), *batch(5), config=TrainConfig(accumulate=4))
    assert net.sizes == [3, 3, 2, 2, 3, 2], "and never a single picture"


def test_the_largest_batch_is_found_by_doubling():
    asked = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= 300

    assert largest(64, 100_000, fits) == 256
    assert asked == [128, 256, 512]
    assert largest(64, 200, fits) == 128
    assert largest(64, 3, fits) == 64, "also where there are too few pictures for more"


def test_a_gpu_without_room_for_the_usual_batch_gets_the_first_half_of_it_that_fits():
    asked = []

    def chosen(most: int, num_pictures: int = 10_000) -> int:
        def fits(size: int) -> bool:
            asked.append(size)
            return size <= most

        config = TrainConfig(batch_size="auto")
        return choose_batch_size(config, num_pictures=num_pictures, device=GPU, fits=fits)

    assert chosen(20) == 16
    assert asked == [128, 64, 32, 16]
    assert [chosen(64), chosen(63), chosen(2), chosen(7, num_pictures=13)] == [64, 32, 2, 6]
    with pytest.raises(InputError, match=r"with no train\.batch_size from 64 down to 2; use smaller pictures"):
        chosen(1)


def test_trying_is_for_gpus_and_leaves_an_epoch_some_steps():
    def size(wanted: object, device: torch.device, num_pictures: int = 10_000) -> int:
        config = TrainConfig(batch_size=wanted)
        return choose_batch_size(config, num_pictures=num_pictures, device=device, fits=lambda _: True)

    assert size("auto", CPU) == size(None, CPU) == size(None, GPU) == 64
    assert size("auto", GPU) == 256  # 39 steps; 512 would leave 19
    assert size(None, CPU, num_pictures=10) == size("auto", GPU, num_pictures=10) == 10
    assert size(7, GPU) == 7


class Small(nn.Module):
    """A network whose memory ends at 16 pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, pixels: Tensor) -> Tensor:
        if len(pixels) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(pixels)


class Batches:
    def __init__(self, size: int) -> None:
        self.size, self.steps_per_epoch = size, 3

    def epoch(self, epoch: int, *, start_step: int = 0):  # noqa: ARG002
        yield from [batch(self.size)] * (3 - start_step)


def test_a_batch_that_runs_out_of_memory_does_not_fit_and_leaves_no_trace():
    net = Small()
    before = [p.detach().clone() for p in net.parameters()]

    def fits(size: int) -> bool:
        return fits_memory(net, Batches(size), optimizer=SGDConfig(lr="auto"), config=TrainConfig())

    assert (fits(16), fits(17)) == (True, False)
    assert largest(4, 1000, fits) == 16
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
def test_a_gpu_is_filled_and_given_back():
    """Each picture takes 64 MB in float32."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, pixels: Tensor) -> Tensor:
            logits: Tensor = self.inner(pixels)
            spread = (logits.sum(1, keepdim=True) * torch.ones(1, 16 * 2**20, device=pixels.device)).tanh()
            return logits + spread.mean(1, keepdim=True)

    class OnGPU(Batches):
        def epoch(self, epoch: int, *, start_step: int = 0):
            for pixels, targets in super().epoch(epoch, start_step=start_step):
                yield pixels.cuda(), targets.cuda()

    net, free = Wide().cuda(), torch.cuda.mem_get_info()[0]
    size = largest(
        4, 2**16, lambda size: fits_memory(net, OnGPU(size), optimizer=SGDConfig(lr="auto"), config=TrainConfig())
    )
    assert 4 < size < 2**16
    assert torch.cuda.mem_get_info()[0] > 0.95 * free
