"""The imports of a run, in the shortest time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

BEGINNING = (
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "fastapi.encoders",
    "flows.pipeline",
    "models.training.launch",
)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is looked for while modules are imported, and afterwards not among what they made.

    Modules stay, yet the collector goes through all of them again and again as they grow, which takes a good part
    of the time of importing torch or Prefect's server. Entered within another one, it changes nothing.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def beginning_of_a_flow() -> None:
    """The flow, and what Prefect 3.8 imports when one begins and its first task does: better spent while the server is
    waited for than afterwards."""
    for name in BEGINNING:
        import_module(name)
