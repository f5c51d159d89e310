"""The ends of the Hessian's spectrum, against matrices and networks whose spectrum is known exactly."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from data.loader import Pictures
from data.prepare import Dataset
from models.config import Experiment
from models.evaluation.diagnosis.curvature import extremes, spectrum
from models.evaluation.diagnosis.measure import curvature
from models.evaluation.diagnosis.signals import minimum_or_saddle
from models.pixels import measure
from models.training.config import BinaryConfig, CrossEntropyConfig, FocalConfig, LossConfig
from models.training.losses import loss_of
from models.zoo.build import build
from models.zoo.config_classic import SoftmaxConfig


def matrix_with(values: list[float]) -> Tensor:
    """Symmetric, with these eigenvalues and random eigenvectors."""
    turn, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=torch.Generator().manual_seed(1)))
    return turn @ torch.diag(torch.tensor(values)) @ turn.T


def start(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_quadratic_gives_the_ends_of_its_spectrum_within_the_stated_errors(scale: float):
    values = [-3.0 * scale, *torch.linspace(-0.5 * scale, 2 * scale, 118).tolist(), 10.0 * scale]
    matrix = matrix_with(values)
    ends = extremes(lambda v: matrix @ v, start(120), iterations=60)
    low, high = ends.errors
    assert max(low, high) < 0.02 * scale
    assert float(ends.values[0]) == pytest.approx(values[0], abs=low + 1e-5 * scale)
    assert float(ends.values[-1]) == pytest.approx(values[-1], abs=high + 1e-5 * scale)
    assert float(ends.weights.sum()) == pytest.approx(1)
    assert len(ends.values) < 60  # it ended once both ends were known


def test_few_steps_say_how_far_off_they_may_be():
    values = torch.linspace(-1, 1, 200).tolist()
    matrix = matrix_with(values)
    ends = extremes(lambda v: matrix @ v, start(200), iterations=5)
    for value, error in ((float(ends.values[0]), ends.errors[0]), (float(ends.values[-1]), ends.errors[1])):
        assert error > 0.01
        assert min(abs(value - exact) for exact in values) <= error + 1e-6


def test_a_matrix_of_few_different_values_ends_as_soon_as_all_are_found():
    matrix = matrix_with([2.0] * 10 + [5.0] * 10)
    ends = extremes(lambda v: matrix @ v, start(20), iterations=20)
    assert ends.values.tolist() == pytest.approx([2.0, 5.0], rel=1e-4)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 3))


def pictures(n: int = 20, features: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, features, generator=generator), torch.arange(n) % classes


def exact(net: nn.Module, loss_of_answers: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Eigenvalues of the full Hessian over all weights, ascending."""
    net.eval()
    shapes = {name: weight.shape for name, weight in net.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = {name: part.view(shapes[name]) for name, part in zip(shapes, flat.split(sizes), strict=True)}
        return loss_of_answers(functional_call(net, parts, (pixels,)))

    flat = torch.cat([weight.detach().flatten() for weight in net.parameters()])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat).double())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_small_network_gives_the_exact_ends_whatever_the_batches(smoothing: float):
    net, (pixels, labels) = small_network(), pictures()
    values = exact(net, lambda logits: F.cross_entropy(logits, labels, label_smoothing=smoothing), pixels)
    batches = list(zip(pixels.split(7), labels.split(7), strict=True))  # the last is short
    found = spectrum(net, batches, label_smoothing=smoothing, iterations=60)
    assert (found.n, found.parameters) == (20, 63)
    scale = float(values.abs().max())
    assert found.largest == pytest.approx(float(values[-1]), abs=found.largest_error + 1e-5 * scale)
    assert found.smallest == pytest.approx(float(values[0]), abs=found.smallest_error + 1e-5 * scale)
    assert found.largest_error < 0.01 * scale
    loss = F.cross_entropy(net(pixels), labels, label_smoothing=smoothing)
    slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))]).norm()
    assert found.slope == pytest.approx(float(slope), rel=1e-4)


@pytest.mark.parametrize("config", [FocalConfig(), BinaryConfig()], ids=["focal", "binary"])
def test_the_curvature_is_that_of_the_loss_trained_on(config: LossConfig):
    net, (pixels, labels), weights = small_network(), pictures(), torch.tensor([0.5, 1.0, 2.0])

    def loss(logits: Tensor) -> Tensor:
        return loss_of(logits, labels, config=config, smoothing=0.1, class_weights=weights)

    values = exact(net, loss, pixels)
    batches = list(zip(pixels.split(7), labels.split(7), strict=True))
    found = spectrum(net, batches, label_smoothing=0.1, iterations=60, loss=config, class_weights=weights)
    scale = float(values.abs().max())
    assert found.largest == pytest.approx(float(values[-1]), abs=found.largest_error + 1e-5 * scale)
    assert found.smallest == pytest.approx(float(values[0]), abs=found.smallest_error + 1e-5 * scale)
    slopes = torch.autograd.grad(loss(net(pixels)), list(net.parameters()))
    assert found.slope == pytest.approx(float(torch.cat([g.flatten() for g in slopes]).norm()), rel=1e-4)


def test_a_runs_curvature_is_that_of_its_own_loss(tiny: Experiment, toy: Dataset):
    net = build(SoftmaxConfig(), toy.images.spec, measure(toy.images.pixels, toy.split.train), 2)  # starts at zero

    def largest(loss: LossConfig) -> float:
        chosen = tiny.model_copy(update={"train": tiny.train.model_copy(update={"loss": loss})})
        found, _ = curvature(net, Pictures(toy.images.pixels), toy.images, toy.split, experiment=chosen)
        assert found is not None
        return found.largest

    # Of two classes at even odds the second derivative by the logits is 1/4 for each alone, and 1/2 for both together.
    assert largest(CrossEntropyConfig()) == pytest.approx(2 * largest(BinaryConfig()), rel=1e-3)


def test_every_product_with_the_hessian_is_told():
    heard: list[tuple[int, int]] = []

    def progress(what: str, done: int, total: int) -> None:
        assert "Hessian" in what
        heard.append((done, total))

    found = spectrum(small_network(), [pictures()], label_smoothing=0.0, iterations=5, progress=progress)
    assert heard == [(done, 7) for done in range(found.iterations + 2)]


def test_two_layers_of_zeros_stand_on_a_saddle():
    net = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3, bias=False))
    for weight in net.parameters():
        nn.init.zeros_(weight)
    found = spectrum(net, [pictures()], label_smoothing=0.0, iterations=36)
    assert found.slope == pytest.approx(0, abs=1e-7)
    assert found.smallest == pytest.approx(-found.largest, rel=1e-3)  # it falls as steeply as it rises
    assert minimum_or_saddle(found).kind == "saddle"


@pytest.mark.slow
def test_the_bottom_of_a_convex_loss_is_a_minimum():
    net, (pixels, labels) = nn.Linear(6, 3), pictures()
    for _ in range(1000):
        loss = F.cross_entropy(net(pixels), labels, label_smoothing=0.1)
        for weight, slope in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            weight.data -= slope
    found = spectrum(net, [(pixels, labels)], label_smoothing=0.1, iterations=21)
    assert found.slope < 1e-3
    assert found.smallest == pytest.approx(0, abs=1e-3)  # adding the same to all logits changes nothing
    remark = minimum_or_saddle(found)
    assert remark.kind == "minimum"
    assert "flat in some directions" in remark.text


@pytest.mark.slow
def test_attention_can_be_differentiated_twice():
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.head = nn.Linear(6, 18), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x.view(len(x), 1, 2, 6)).chunk(3, dim=-1)
            answer: Tensor = self.head(F.scaled_dot_product_attention(q, k, v).mean(dim=(1, 2)))
            return answer

    torch.manual_seed(0)
    net, (pixels, labels) = Attends(), pictures(features=12)
    with sdpa_kernel(SDPBackend.MATH):
        values = exact(net, lambda logits: F.cross_entropy(logits, labels), pixels)
    found = spectrum(net, [(pixels, labels)], label_smoothing=0.0, iterations=60)
    assert found.largest == pytest.approx(float(values[-1]), rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
def test_a_gpu_finds_the_same_ends():
    net, (pixels, labels) = small_network(), pictures()
    here = spectrum(net, [(pixels, labels)], label_smoothing=0.1, iterations=40)
    there = spectrum(net.cuda(), [(pixels.cuda(), labels.cuda())], label_smoothing=0.1, iterations=40)
    assert there.largest == pytest.approx(here.largest, rel=1e-3)
    assert there.smallest == pytest.approx(here.smallest, rel=1e-2)
