"""Muon takes weights together: the same results as one by one, in few operators, and without a wait for a GPU."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from data.spec import ImageSpec
from models.device import multiplies_bfloat16
from models.records import PixelStatistics
from models.training.config import MuonConfig
from models.training.muon import RMS, Muon, orthogonalize
from models.training.optim import build_optimizer
from models.zoo.build import build
from models.zoo.config import CNNConfig

SHAPES = [(24, 216), (216, 24), (32, 32)]


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def network(*, width: int = 8, blocks: int = 2) -> nn.Module:
    """Kernels and matrices; batch norms would answer differently for a rounding."""
    torch.manual_seed(0)
    inner = [layer for _ in range(blocks) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.Tanh())]
    rest = [
        nn.Conv2d(width, 2 * width, 1),
        nn.Flatten(),
        nn.Linear(32 * width, 16),
        nn.Linear(16, 16),
        nn.Linear(16, 2),
    ]
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), *inner, *rest)


def step(net: nn.Module, optimizer: torch.optim.Optimizer, times: int = 1) -> None:
    x = drawn(5, 3, 4, 4).to(next(net.parameters()).device)
    for _ in range(times):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_a_stack_a_matrix_becomes_what_it_becomes_alone(shape: tuple[int, int], bfloat16: bool):
    matrices = drawn(3, *shape) * torch.tensor([1e-4, 1.0, 1e4]).view(3, 1, 1)
    alone = [orthogonalize(matrix[None], bfloat16=bfloat16)[0] for matrix in matrices]
    assert torch.allclose(
        orthogonalize(matrices, bfloat16=bfloat16), torch.stack(alone), atol=1e-2 if bfloat16 else 1e-5
    )


@pytest.mark.parametrize("smallest", [0.0, -3.0, -7.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_bfloat16_singular_values_are_those_of_float32_or_rounding(shape: tuple[int, int], smallest: float):
    """Of a matrix of nearly one direction, rounding hides the others; but they must not grow."""
    left, values, right = torch.linalg.svd(drawn(*shape), full_matrices=False)
    values[1:] *= 10**smallest
    matrix = (left * values @ right)[None]
    exact, rounded = orthogonalize(matrix), orthogonalize(matrix, bfloat16=True)
    assert rounded.dtype == torch.bfloat16
    found, expected = torch.linalg.svdvals(rounded[0].float()), torch.linalg.svdvals(exact[0])
    assert found[0] == pytest.approx(float(expected[0]), abs=0.02)
    if smallest == 0:
        assert torch.allclose(found, expected, atol=0.02)
        assert torch.allclose(rounded[0].float(), exact[0], atol=0.02)
    assert torch.linalg.matrix_norm(rounded[0].float() - exact[0], 2) < 0.5


def test_the_layout_of_weights_and_gradients_in_memory_changes_nothing():
    nets = [network(), network().to(memory_format=torch.channels_last)]
    optimizers = [build_optimizer(net, MuonConfig(lr=0.05, weight_decay=0.1)) for net in nets]
    for _ in range(3):
        for net, optimizer in zip(nets, optimizers, strict=True):
            for index, weight in enumerate(net.parameters()):
                weight.grad = drawn(index + 1, *weight.shape)[index]  # always contiguous
            optimizer.step()
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_state_kept_in_another_layout_goes_on():
    plain, moved = network(), network().to(memory_format=torch.channels_last)
    before, after = (build_optimizer(net, MuonConfig(lr=0.05)) for net in (plain, moved))
    step(plain, before, 2)
    moved.load_state_dict(plain.state_dict())
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    for one, other in zip(plain.parameters(), moved.parameters(), strict=True):
        one.grad = other.grad = drawn(*one.shape)
    before.step()
    after.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain.parameters(), moved.parameters(), strict=True))


def test_what_a_checkpoint_holds_stays_what_it_was():
    """Those of interrupted runs are to be read."""
    net = network()
    optimizer = build_optimizer(net, MuonConfig())
    step(net, optimizer, 3)
    saved = list(optimizer.state_dict()["state"].values())
    assert {frozenset(kept) for kept in saved} == {frozenset({"momentum"}), frozenset({"step", "mean", "square"})}
    assert {(kept["step"].item(), kept["step"].dtype) for kept in saved if "step" in kept} == {(3.0, torch.float32)}


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_counts_are_on_the_cpu_wherever_the_state_was_read_to():
    """The meta device stands for a GPU, which would be waited for."""
    net = network()
    optimizer = build_optimizer(net, MuonConfig())
    step(net, optimizer, 2)
    saved = optimizer.state_dict()
    there = build_optimizer(network().to("meta"), MuonConfig())
    there.load_state_dict(saved)
    states = there.state.values()
    assert {kept["step"].device.type for kept in states if "step" in kept} == {"cpu"}
    assert {kept[key].device.type for kept in states for key in kept if key != "step"} == {"meta"}


def test_a_weight_that_joins_later_counts_its_own_steps():
    """As one that was frozen: its averages are young, and are corrected for that."""
    net, alone = nn.Linear(3, 2), nn.Linear(3, 2)
    alone.load_state_dict(net.state_dict())
    late, only = build_optimizer(net, MuonConfig(lr=0.01)), build_optimizer(alone, MuonConfig(lr=0.01))
    for _ in range(3):
        net.weight.grad, net.bias.grad = torch.zeros(2, 3), None
        late.step()
    for _ in range(2):
        net.weight.grad = alone.weight.grad = torch.zeros(2, 3)
        net.bias.grad = alone.bias.grad = torch.tensor([1.0, -2.0])
        late.step()
        only.step()
    assert torch.equal(net.bias, alone.bias)


def test_a_step_without_any_gradient_changes_nothing():
    net = network()
    before = [weight.detach().clone() for weight in net.parameters()]
    build_optimizer(net, MuonConfig()).step()
    assert all(map(torch.equal, before, net.parameters()))


def test_normalized_kernels_are_brought_to_one_size_and_do_not_decay():
    net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    optimizer = build_optimizer(net, MuonConfig(lr=0.1, weight_decay=5.0, normalize=True))
    for weight in net.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert [net[index].weight.square().mean().sqrt().item() for index in (1, 2)] == pytest.approx([RMS, RMS])


class Operators(TorchDispatchMode):
    """Counts them, as a GPU would be told them."""

    def __init__(self) -> None:
        super().__init__()
        self.num = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num += not operator.is_view and "profiler" not in str(operator)
        return operator(*args, **(kwargs or {}))


def operators_of_a_step(net: nn.Module, config: MuonConfig) -> int:
    """Not on the CPU, where every matrix goes by itself."""
    net = net.to("meta")
    optimizer = build_optimizer(net, config)
    for weight in net.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    with Operators() as counted:
        optimizer.step()
    return counted.num


@pytest.mark.parametrize("normalize", [False, True])
def test_a_step_of_the_default_network_takes_few_operators(normalize: bool):
    """635 one tensor at a time: it has 11 inner matrices of 6 shapes, and 27 other weights."""
    statistics = PixelStatistics(mean=(0.5,) * 3, std=(0.2,) * 3)
    net = build(CNNConfig(), ImageSpec(height=32, width=32), statistics, 10)
    assert operators_of_a_step(net, MuonConfig(normalize=normalize)) < 250


def test_more_layers_of_the_same_shapes_take_no_more_operators():
    assert operators_of_a_step(network(blocks=9), MuonConfig()) == operators_of_a_step(network(blocks=2), MuonConfig())


def test_bfloat16_takes_fewer_operators_than_float32():
    with Operators() as narrow:
        orthogonalize(drawn(3, 8, 16), bfloat16=True)
    with Operators() as wide:
        orthogonalize(drawn(3, 8, 16))
    assert narrow.num < wide.num <= 30


@contextmanager
def no_waits() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_on_a_gpu_steps_wait_for_nothing_and_agree_with_the_cpu(layout: torch.memory_format, normalize: bool):
    """Also after a checkpoint; and no setting of torch's is left changed."""
    config = MuonConfig(lr=0.02, weight_decay=0.1, normalize=normalize)
    here, there = (network().to(memory_format=layout) for _ in range(2))
    there.cuda()
    on_cpu, on_gpu = build_optimizer(here, config), build_optimizer(there, config)
    settings = torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()
    before = [weight.detach().clone() for weight in here.parameters()]
    for _ in range(4):
        for index, (one, other) in enumerate(zip(here.parameters(), there.parameters(), strict=True)):
            one.grad = drawn(index + 1, *one.shape)[index]
            other.grad = one.grad.cuda()
        on_cpu.step()
        torch.cuda.synchronize()
        with no_waits():
            on_gpu.step()
        resumed = build_optimizer(there, config)
        resumed.load_state_dict(on_gpu.state_dict())
        on_gpu = resumed
    assert settings == (torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision())
    assert isinstance(on_gpu, Muon)
    tolerance = 0.05 if multiplies_bfloat16(torch.device("cuda")) else 1e-3
    for old, one, other in zip(before, here.parameters(), there.parameters(), strict=True):
        assert (one - other.cpu()).norm() < tolerance * (one - old).norm()
