"""Batch norm over the whole batch where several processes each hold a share of it.

On a GPU this is torch's own `SyncBatchNorm`, which refuses CPUs; there the same in plain operations. The centroids of
clustered attention are statistics of the batch too. Nobody sends such buffers round: all ranks must compute the same.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from data.errors import InputError
from models.zoo.attention.clustered import Clustered


def with_shared_norms(net: nn.Module) -> nn.Module:
    """`net` with every batch norm replaced, and centroids that move alike; weights, buffers and their names stay."""
    for module in net.modules():
        if isinstance(module, Clustered):
            module.added = added
    on_gpu = next(net.parameters()).device.type == "cuda"
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, shared(child, on_gpu=on_gpu))
    return net


def shared(norm: _BatchNorm, *, on_gpu: bool) -> nn.Module:
    """`norm` over the whole batch, with the dropout and the activation that timm puts inside.

    Raises `InputError` for another norm with a way of its own, which nobody here knows.
    """
    own_way, inside = type(norm).forward is not _BatchNorm.forward, dict(norm.named_children())
    if own_way and inside.keys() != {"drop", "act"}:
        raise InputError(
            f"the network has a batch norm of its own kind, {type(norm).__name__}, which cannot be shared by several "
            "processes; use train.devices 1 or another model"
        )
    if on_gpu:
        whole: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
    else:
        whole = SharedNorm(norm)
    for name, module in inside.items():
        whole.add_module(name, module)
    if own_way:
        whole.register_forward_hook(finished)
    return whole


def finished(norm: nn.Module, _: object, y: Tensor) -> Tensor:
    """What timm's BatchNormAct2d does after it has normalised."""
    z: Tensor = norm.act(norm.drop(y))  # type: ignore[operator]
    return z


def require_company(net: nn.Module, *, batch_size: int) -> None:
    """Raises `InputError` for a batch of one picture, where its last map may be a single number to be normalised."""
    if batch_size == 1 and any(isinstance(module, _BatchNorm) for module in net.modules()):
        raise InputError("train.batch_size 1 leaves batch norm no second picture to compare with; use 2 or more")


class SharedNorm(_BatchNorm):
    """(B, C, ...) -> the same shape, normalised over the B of all ranks; a rank's own B may be 0."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training

    def forward(self, input: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        x = input.float()
        shape = (1, -1, *[1] * (x.ndim - 2))
        others = [dim for dim in range(x.ndim) if dim != 1]
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = added(torch.cat([x.sum(others), count]))
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = x - mean.view(shape)
        variance = added(centred.square().sum(others)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def added(own: Tensor) -> Tensor:
    """The sum over all ranks, on every rank."""
    total: Tensor = Added.apply(own)
    return total


class Added(torch.autograd.Function):
    """What a rank puts in reaches the losses of all ranks, so their gradients are added too."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ARG004 - as autograd calls it
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
