"""Whether the devices that an experiment names are there: asked before anything is started, fetched or written."""

from models.config import Experiment
from models.training.nodes import require_number


def require_devices_of(experiment: Experiment) -> None:
    """Raises `InputError`. Those that any machine has are not looked for: that takes torch, which takes seconds."""
    require_number(experiment.train)
    wanted = experiment.train.devices
    if wanted in ("auto", "cpu", 1):
        return
    from models.device import require_devices

    require_devices(wanted)
