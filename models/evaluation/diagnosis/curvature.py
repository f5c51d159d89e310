"""The ends of the Hessian's spectrum at the final weights: does the loss rise in every direction, or still fall in one?

Lanczos' method (https://doi.org/10.6028/jres.045.026) with full reorthogonalisation on products H v, which double
backward gives without ever writing H down (https://doi.org/10.1162/neco.1994.6.1.147). In float32, and in evaluation
mode: batch norm with its stored statistics is the function that is served, and makes the loss a plain mean over
pictures, while batch statistics would tie them together. The loss is the training loss with its label smoothing and
class weights, without weight decay and augmentation.

What is proven: every value found lies within the spectrum, so a negative one means that H has a negative eigenvalue,
and some eigenvalue lies within the stated error of each value. That nothing lies beyond them is likely, not proven.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from data.progress import Progress, ignore
from models.records import Spectrum
from models.training.config import CrossEntropyConfig, LossConfig
from models.training.losses import loss_of

SEED = 0
TOLERANCE = 1e-3  # of the largest absolute value: both ends are known well enough
ROOM = 4 << 30  # bytes for the vectors; a large network gets fewer iterations
LEAST_ITERATIONS = 10

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ends:
    """Of a symmetric matrix."""

    values: Tensor  # (k,) float64, Ritz values, ascending
    weights: Tensor  # (k,) float64, squared overlap of each Ritz vector with the start
    errors: tuple[float, float]  # residual of the smallest and of the largest


@dataclass(frozen=True)
class Surface:
    """The mean loss over some pictures, as a function of a network's weights."""

    net: nn.Module
    batches: Sequence[tuple[Tensor, Tensor]]
    label_smoothing: float
    loss: LossConfig
    class_weights: Tensor | None = None

    @property
    def n(self) -> int:
        return sum(len(labels) for _, labels in self.batches)

    @property
    def weights(self) -> list[Tensor]:
        return [weight for weight in self.net.parameters() if weight.requires_grad]

    def slopes(self, pixels: Tensor, labels: Tensor, *, again: bool) -> tuple[Tensor, ...]:
        """One batch's part of the gradient, by weight; `again`: to be differentiated once more."""
        loss = loss_of(
            self.net(pixels), labels, config=self.loss, smoothing=self.label_smoothing, class_weights=self.class_weights
        )
        return torch.autograd.grad(
            loss * (len(labels) / self.n), self.weights, create_graph=again, materialize_grads=True
        )

    def gradient(self) -> Tensor:
        """(P,) over all weights."""
        return torch.stack([flat(self.slopes(*batch, again=False)) for batch in self.batches]).sum(0)

    def product(self, vector: Tensor) -> Tensor:
        """H v, (P,) -> (P,)."""
        weights = self.weights
        parts = vector.split([weight.numel() for weight in weights])  # type: ignore[no-untyped-call]
        directions = [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]
        total = torch.zeros_like(vector)
        for pixels, labels in self.batches:
            slopes = self.slopes(pixels, labels, again=True)
            along = torch.stack([(g * d).sum() for g, d in zip(slopes, directions, strict=True)]).sum()
            total += flat(torch.autograd.grad(along, weights, materialize_grads=True))
        return total


def spectrum(
    net: nn.Module,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    label_smoothing: float,
    iterations: int,
    loss: LossConfig | None = None,
    class_weights: Tensor | None = None,
    progress: Progress = ignore,
) -> Spectrum:
    """`batches`: pixels and labels of the pictures the loss, by default cross-entropy, is a mean over. `net` is left
    in evaluation mode.

    `progress` hears of every product with the Hessian, at most `iterations` and one for either end.

    Raises RuntimeError where the network has an operation that cannot be differentiated twice, or memory is short.
    """
    surface = Surface(net.eval(), batches, label_smoothing, loss or CrossEntropyConfig(), class_weights)
    weights = surface.weights
    size = sum(weight.numel() for weight in weights)
    most = affordable(iterations, size)
    product = counted(surface.product, most + 2, progress)
    start = torch.randn(size, generator=torch.Generator().manual_seed(SEED)).to(weights[0].device)
    recurrent = any(isinstance(module, nn.RNNBase) for module in net.modules())  # cuDNN's is differentiable once
    precise = torch.backends.cudnn.flags(enabled=not recurrent, allow_tf32=False)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), precise:
        slope = float(surface.gradient().norm())
        ends = extremes(product, start, iterations=most)
    return Spectrum(
        n=surface.n,
        parameters=size,
        iterations=len(ends.values),
        slope=slope,
        largest=float(ends.values[-1]),
        largest_error=ends.errors[1],
        smallest=float(ends.values[0]),
        smallest_error=ends.errors[0],
        values=tuple(ends.values.tolist()),
        weights=tuple(ends.weights.tolist()),
    )


def counted(product: Product, most: int, progress: Progress) -> Product:
    """The same, telling how many are done: each may take seconds."""
    done = 0

    def told(vector: Tensor) -> Tensor:
        nonlocal done
        progress("curvature: product with the Hessian", done, most)
        done += 1
        return product(vector)

    return told


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def affordable(iterations: int, size: int) -> int:
    """Lanczos keeps a vector of `size` float32 for each iteration; more than `size` bring nothing."""
    return min(iterations, max(LEAST_ITERATIONS, ROOM // (4 * size)), size)


def extremes(product: Product, start: Tensor, *, iterations: int) -> Ends:
    """Of the symmetric matrix behind `product`, (P,) -> (P,); `start` (P,) is any vector. Ends once both are known."""
    basis = [start / start.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    for step in range(iterations):
        ahead = product(basis[-1])
        diagonal.append(float(ahead @ basis[-1]))
        for _ in range(2):  # once is not enough in float32
            for vector in basis:
                ahead -= (ahead @ vector) * vector
        rest = float(ahead.norm())
        values, vectors = torch.linalg.eigh(tridiagonal(diagonal, beside))
        bounds = rest * vectors[-1, [0, -1]].abs()
        scale = float(values.abs().max())
        if step + 1 == iterations or rest <= 1e-6 * scale or bool((bounds <= TOLERANCE * scale).all()):
            break
        beside.append(rest)
        basis.append(ahead / rest)
    low, high = (residual(product, basis, values[end], vectors[:, end]) for end in (0, -1))
    return Ends(values=values, weights=vectors[0].square(), errors=(low, high))


def tridiagonal(diagonal: Sequence[float], beside: Sequence[float]) -> Tensor:
    """(k, k) float64 from k and k - 1 numbers."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside, dtype=torch.float64)
    return matrix + torch.diag(off, 1) + torch.diag(off, -1)


def residual(product: Product, basis: Sequence[Tensor], value: Tensor, mixture: Tensor) -> float:
    """Of a Ritz pair, by one more product instead of the recurrence, so that rounding is in it."""
    vector = torch.zeros_like(basis[0])
    for share, part in zip(mixture.tolist(), basis, strict=True):
        vector += share * part
    vector /= vector.norm()
    return float((product(vector) - float(value) * vector).norm())
