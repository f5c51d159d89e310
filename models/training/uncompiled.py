"""torch's optimisers without their preparations for `torch.compile`: the same steps, bit for bit, and the same state.

Four methods of every optimiser, and its step, import `torch._dynamo` when they are first called, so that a compiler
would leave them alone; that import of hundreds of modules takes longer than many a training here. Nothing here compiles
an optimiser. The plain methods are what `functools.wraps` keeps; where a version of torch has not wrapped them, or
otherwise, they are taken as they are.
"""

import inspect
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")

Kind = TypeVar("Kind", bound=Optimizer)


def uncompiled(kind: type[Kind]) -> type[Kind]:
    """A subclass of that name. `differentiable=True` has no effect on it."""
    plain: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in WRAPPED}
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(inspect.unwrap(kind.step))})
