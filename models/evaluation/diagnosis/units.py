"""Which ReLUs never fire: the unit gives 0 on every picture, so no gradient reaches its weights and it stays so."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.records import DeadUnits
from models.training.gradients import without_what_all_share
from models.zoo.attention.layer import Mix

RELUS = {torch.relu, torch.relu_, F.relu, Tensor.relu, Tensor.relu_}


class Firing(TorchFunctionMode):
    """Sees every ReLU that a network computes, as a module or as a function, and remembers which units fired."""

    def __init__(self) -> None:
        super().__init__()
        self._inside: list[tuple[str, bool]] = [("", False)]  # the modules that are running, and which mix tokens
        self._calls: Counter[str] = Counter()  # ReLUs of each module in this forward pass
        self._fired: dict[str, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in RELUS:
            self._look(result)
        return result

    def dead(self) -> tuple[DeadUnits, ...]:
        """In the order in which they were first computed."""
        return tuple(
            DeadUnits(layer=layer, units=fired.numel(), dead=int((~fired).sum()))
            for layer, fired in zip(without_what_all_share(list(self._fired)), self._fired.values(), strict=True)
        )

    def enter(self, name: str, module: nn.Module) -> None:
        if len(self._inside) == 1:
            self._calls.clear()
        self._inside.append((name, isinstance(module, Mix)))

    def leave(self) -> None:
        self._inside.pop()

    def _look(self, activation: Tensor) -> None:
        """A unit is a channel of (B, C, H, W), an entry of each head where tokens are mixed in (B, H, N, d), or else an
        entry of the last axis."""
        name, mixing = self._inside[-1]
        module = name or "network"
        self._calls[module] += 1
        count = self._calls[module]
        layer = module if count == 1 else f"{module} ({count})"
        if mixing and activation.ndim == 4:
            activation = activation.transpose(1, 2).flatten(2)  # (B, N, H * d)
        axis = 1 if activation.ndim == 4 else activation.ndim - 1
        fired = (activation > 0).movedim(axis, 0).flatten(1).any(dim=1)
        self._fired[layer] = self._fired[layer] | fired if layer in self._fired else fired


@contextmanager
def watched(net: nn.Module) -> Iterator[Firing]:
    """While it lasts, all that `net` answers is looked at."""
    firing = Firing()
    names = {module: name for name, module in net.named_modules()}
    hooks = [module.register_forward_pre_hook(lambda m, _: firing.enter(names[m], m)) for module in names]
    hooks += [module.register_forward_hook(lambda *_: firing.leave(), always_call=True) for module in names]
    try:
        with firing:
            yield firing
    finally:
        for hook in hooks:
            hook.remove()
