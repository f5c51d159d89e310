import math

import pytest
import torch
from torch import nn

from models.training.config import AdamWConfig, MuonConfig
from models.training.muon import COEFFICIENTS, ITERATIONS, RMS, Muon, inner_weights, orthogonalize
from models.training.optim import build_optimizer, set_rate


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (32, 32)])
def test_singular_values_become_nearly_one(shape: tuple[int, int]):
    values = torch.linalg.svdvals(orthogonalize(torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))))
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_the_singular_vectors_stay():
    matrix = torch.diag(torch.tensor([3.0, 1.0, 0.5]))
    turned = orthogonalize(matrix[None])[0]
    assert torch.allclose(turned - torch.diag(turned.diagonal()), torch.zeros(3, 3), atol=0.02)
    assert (turned.diagonal() > 0.5).all()


@pytest.mark.parametrize("smallest", [0.0, -3.0, -7.0])
@pytest.mark.parametrize("shape", [(24, 216), (216, 24), (32, 32)])
def test_it_is_newton_schulz_whatever_the_matrix_is_like(shape: tuple[int, int], smallest: float):
    """Also where it has nearly one direction, as gradients often have."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values[1:] *= 10**smallest
    x = values / values.norm()
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        x = a * x + b * x**3 + c * x**5
    found = orthogonalize((left * values @ right).float()[None])[0]
    assert torch.allclose(found.double(), left * x @ right, atol=0.02)


def test_a_gradient_of_zeros_stays_zero():
    assert torch.equal(orthogonalize(torch.zeros(2, 4, 9)), torch.zeros(2, 4, 9))


def test_the_first_and_last_layers_biases_and_norms_are_left_to_adamw():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    assert [id(weight) for weight in inner_weights(net)] == [id(net[2].weight)]


def test_a_very_wide_matrix_is_left_to_adamw():
    wide, narrow = nn.Linear(1200, 1100, device="meta"), nn.Linear(1100, 8, device="meta")
    net = nn.Sequential(nn.Linear(2, 1200, device="meta"), wide, narrow, nn.Linear(8, 2, device="meta"))
    assert [id(weight) for weight in inner_weights(net)] == [id(narrow.weight)]


def test_without_inner_weights_it_is_adamw():
    nets = [nn.Linear(3, 2), nn.Linear(3, 2)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    configs = MuonConfig(lr=0.01, weight_decay=0.1), AdamWConfig(lr=0.01, weight_decay=0.1)
    for net, config in zip(nets, configs, strict=True):
        optimizer = build_optimizer(net, config)
        for _ in range(5):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
    assert torch.allclose(nets[0].weight, nets[1].weight, atol=1e-6)
    assert torch.allclose(nets[0].bias, nets[1].bias, atol=1e-6)


def test_of_normalized_kernels_a_step_changes_the_same_share_whatever_their_size():
    def stepped(size: float) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16, 2))
        net[1].weight.data *= size
        optimizer = build_optimizer(net, MuonConfig(lr=0.1, normalize=True))
        net(torch.ones(2, 3, 5, 5)).square().sum().backward()
        net[1].weight.grad = torch.randn(16, 8, 3, 3)  # whatever the size, as if a norm of no eps followed
        before = net[1].weight.detach() * RMS * math.sqrt(16 * 72) / net[1].weight.detach().norm()
        optimizer.step()
        return before, net[1].weight.detach()

    (before, after), (_, of_large) = stepped(1), stepped(1000)
    assert torch.allclose(after, of_large, atol=1e-6)
    assert float((after - before).norm() / before.norm()) == pytest.approx(0.1, rel=0.3)


def test_what_adamw_trains_learns_at_its_share_of_the_rate():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = build_optimizer(net, MuonConfig(lr=0.2, rest=0.1))
    set_rate(optimizer, 0.5)
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    assert rates[id(net[1].weight)] == pytest.approx(0.1)
    others = [rates[id(weight)] for weight in net.parameters() if weight is not net[1].weight]
    assert others == pytest.approx([0.01] * 5)


def test_its_state_is_saved_and_restored():
    def run(steps: int, optimizer: Muon, net: nn.Module) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()

    def fresh() -> tuple[nn.Module, Muon]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
        optimizer = build_optimizer(net, MuonConfig(lr=0.01))
        assert isinstance(optimizer, Muon)
        return net, optimizer

    whole, optimizer = fresh()
    run(4, optimizer, whole)
    first, optimizer = fresh()
    run(2, optimizer, first)
    second, resumed = fresh()
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    run(2, resumed, second)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
