"""Whether other machines train along, by torchrun's own variables. No torch here."""

import os

from data.errors import InputError
from models.config import TrainConfig

ONE = {"1", "1:1"}  # which cluster operators also set for a job of one machine
MEETING = ("PET_NNODES", "PET_RDZV_ENDPOINT", "PET_MASTER_ADDR")


def several_nodes() -> bool:
    """Whether the variables say where others meet that train along."""
    return os.environ.get("PET_NNODES") not in ONE and any(name in os.environ for name in MEETING)


def require_number(config: TrainConfig) -> None:
    """Raises `InputError` where several nodes are to train together, and `train.devices` does not say by how many
    processes each."""
    if several_nodes() and not isinstance(config.devices, int):
        said = ", ".join(f"{name}={os.environ[name]}" for name in MEETING if name in os.environ)
        raise InputError(
            f"train.devices {config.devices} would train on this node alone, but {said} asks for several; give "
            "train.devices the number of processes on each node, or unset these variables"
        )
