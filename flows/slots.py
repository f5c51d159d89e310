"""Places to train on: a GPU, or a core of the processor. Who has one holds a lock that the kernel takes back when he
dies; the count that Prefect's UI shows follows it and is never a reason to wait or to stop (flows.leases)."""

import errno
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data.errors import InputError
from data.workers import cores
from flows.leases import leased
from models.claims import taken
from models.config import Experiment
from models.training.nodes import several_nodes
from models.training.told import Stopped

AGAIN_S = 0.3  # how often a taken place is tried again


@dataclass(frozen=True)
class Place:
    """Which one: `index` among those that this process sees, `name` on this host whoever looks."""

    kind: str
    index: int
    name: str


def folder() -> Path:
    """Of the locks: one for all homes of a user on this host, which share its GPUs. `TRAINSERVE_PLACES` names another,
    such as one that several containers share."""
    chosen = os.environ.get("TRAINSERVE_PLACES")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"trainserve-{os.getuid()}"


def places(kind: str) -> list[Place]:
    """All that this process may use."""
    if kind == "cpu":
        return [Place("cpu", core, f"cpu-{core}") for core in range(cores())]
    import torch

    seen = visible(os.environ.get("CUDA_VISIBLE_DEVICES"), max(torch.cuda.device_count(), 1))
    return [Place("gpu", index, f"gpu-{device}") for index, device in enumerate(seen)]


def visible(setting: str | None, num: int) -> list[str]:
    """What the GPUs are called on this host, in the order in which this process counts them: by number or by UUID."""
    named = [] if setting is None else [word.strip() for word in setting.split(",") if word.strip()]
    return [named[index] if index < len(named) else str(index) for index in range(num)]


def wanted(experiment: Experiment) -> tuple[str, int]:
    """("gpu", 2): where this one trains, and how many places that takes."""
    from models.device import choose_device

    kind = "cpu" if choose_device(experiment.train.devices).type == "cpu" else "gpu"
    return kind, num_places(experiment)


def num_places(experiment: Experiment) -> int:
    devices = experiment.train.devices
    return devices if isinstance(devices, int) else 1


def never() -> bool:
    """Nobody asks for a stop."""
    return False


@contextmanager
def place_for(
    experiment: Experiment, *, on_wait: Callable[[str], None], stop: Callable[[], bool] = never
) -> Iterator[Callable[[], None]]:
    """Where this one trains, as long as the block runs. The thread that computes first calls what this yields. Raises
    `Stopped`, where that is asked for while it waits."""
    kind, n = wanted(experiment)
    elsewhere = n > 1 or several_nodes()  # in processes of torchrun
    with place(kind, n, on_wait=on_wait, stop=stop) as taken, shown_alone(taken if elsewhere else ()):
        use = partial(use_here, () if elsewhere else taken)
        use()  # what comes after training computes there, too
        yield use


@contextmanager
def place(
    kind: str, n: int, *, on_wait: Callable[[str], None] = lambda _: None, stop: Callable[[], bool] = never
) -> Iterator[tuple[Place, ...]]:
    """`n` places of this host, waited for. Whoever waits for others that need places must hold none.

    `on_wait` hears once what holds them, where there is anything to wait for.
    """
    with ExitStack() as held:
        there = places(kind)
        taken = take(there, min(n, len(there)), held, on_wait, stop)
        held.enter_context(leased([one.name for one in taken]))
        yield tuple(taken)


def take(
    among: list[Place], n: int, held: ExitStack, on_wait: Callable[[str], None], stop: Callable[[], bool]
) -> list[Place]:
    """One process at a time gathers, so that one that wants many is not overtaken for ever by those that want one."""
    told = False
    with ExitStack() as turn:
        while not lock(f"{among[0].kind}.queue", turn):
            told = told or told_of(among, on_wait)
            wait(stop)
        taken: list[Place] = []
        while True:
            for one in among:
                if len(taken) < n and one not in taken and lock(one.name, held):
                    taken.append(one)
            if len(taken) >= n:
                return sorted(taken, key=lambda one: one.index)
            told = told or told_of([one for one in among if one not in taken], on_wait)
            wait(stop)


def wait(stop: Callable[[], bool]) -> None:
    if stop():
        raise Stopped("before the first step, while it waited for a place")
    time.sleep(AGAIN_S)


def told_of(among: list[Place], on_wait: Callable[[str], None]) -> bool:
    names = ", ".join(f"{one.name} ({holder})" for one in among if (holder := held_by(one.name)))
    on_wait(f"waiting for a place to train on; taken: {names or 'all of them, by others that wait'}")
    return True


def lock(name: str, held: ExitStack) -> bool:
    """Until `held` ends, or this process and whatever it has forked."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        if not os.environ.get("TRAINSERVE_PLACES") and folder().lstat().st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "it is another user's")  # who could have put anything there
        descriptor = os.open(folder() / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise InputError(
            f"the locks of training places cannot be written to {folder()} ({error.strerror}); "
            "set TRAINSERVE_PLACES to a folder you own"
        ) from None
    if not taken(descriptor):
        return False
    held.callback(os.close, descriptor)
    return True


def held_by(name: str) -> str | None:
    """`process 123`; None for a place that is free."""
    file = folder() / f"{name}.lock"
    if not file.exists():
        return None
    with ExitStack() as briefly:
        descriptor = os.open(file, os.O_RDWR)
        briefly.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                return f"process {json.loads(os.pread(descriptor, 200, 0))['pid']}"
            except (ValueError, KeyError):
                return "another process"  # that is just writing its number
    return None


def taken_here() -> list[str]:
    """Names of the places of this host whose locks somebody has."""
    names = (file.name.removesuffix(".lock") for file in folder().glob("*.lock"))
    return [name for name in names if not name.endswith(".queue") and held_by(name) is not None]


@contextmanager
def shown_alone(taken: tuple[Place, ...]) -> Iterator[None]:
    """Processes started meanwhile see these GPUs and no others."""
    if not taken or taken[0].kind != "gpu":
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(one.name.removeprefix("gpu-") for one in taken)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def use_here(taken: tuple[Place, ...]) -> None:
    """This thread computes on the first of them."""
    if taken and taken[0].kind == "gpu":
        import torch

        if torch.cuda.is_available():  # not where the GPU is Apple's
            torch.cuda.set_device(taken[0].index)
