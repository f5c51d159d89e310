"""What this process may use of the machine, and how many workers that is good for."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import takewhile
from math import inf
from pathlib import Path, PurePosixPath

from data.spec import Frozen
from data.workers import cores

# What a worker holds with a small model (`benchmarks/results.md` has the figures), and some room for its pictures.
WORKER_BYTES = 300 << 20
SHARE = 4  # workers take at most one part in so many of the memory: models, pictures and other programs want some too
MOST_WORKERS = 8  # each costs memory and a second of processor time at start; who needs more says so


class Machine(Frozen):
    """As far as this process may use it."""

    cores: int
    memory: int  # bytes
    gpus: int  # that onnxruntime can use


class Workers(Frozen):
    """How the service is laid out on a machine."""

    workers: int  # processes
    threads: int  # of onnxruntime in each
    decoders: int  # threads in each


def suited(machine: Machine) -> Workers:
    """A worker for each GPU, or for each core as far as the memory goes.

    One thread of onnxruntime answers most for its processor time; cores that no worker stands for are shared out.
    """
    if machine.gpus:
        # A GPU is faster than any decoder: each has its share of the cores to feed it.
        decoders = min(8, max(2, machine.cores // machine.gpus))
        return Workers(workers=machine.gpus, threads=1, decoders=decoders)
    fit = machine.memory // SHARE // WORKER_BYTES
    workers = max(1, min(machine.cores, fit, MOST_WORKERS))
    return Workers(workers=workers, threads=max(1, machine.cores // workers), decoders=2)


@cache
def here() -> Machine:
    """The one this process runs on, looked at once."""
    return look()


def look(
    root: Path = Path("/"),
    environment: Mapping[str, str] = os.environ,
    cuda: Callable[[], bool] = lambda: _onnxruntime_has_cuda(),
) -> Machine:
    """`root`: of the file system."""
    gpus = _gpus(root, environment)
    return Machine(cores=_cores(root), memory=_memory(root), gpus=gpus if gpus and cuda() else 0)


def _cores(root: Path) -> int:
    """Of the affinity and of the cgroups' quota, rounded down: half a core does not carry a worker."""
    return max(1, int(min(cores(), _least(root, "cpu", _quota))))


def _memory(root: Path) -> int:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min(whole, _least(root, "memory", _limit)))


def _least(root: Path, controller: str, limit: Callable[[Path], float]) -> float:
    """Whatever limits a cgroup limits those in it. Infinity where nothing does."""
    return min((limit(group) for group in _groups(root, controller)), default=inf)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and of those around it, where they may be mounted; not all of them are there.

    In a container its own group is often mounted as the outermost one, while its path is the host's.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2 has one tree; beside version 1 it is `unified`
            mounts = ("", "unified")
        elif controller in controllers.split(","):
            mounts = (controller, controllers)
        else:
            continue
        group = PurePosixPath(path)
        for mount in mounts:
            for around in (group, *group.parents):
                yield root / "sys/fs/cgroup" / mount / around.relative_to("/")


def _quota(group: Path) -> float:
    """Processors' time it may take in the time of one."""
    if told := _text(group / "cpu.max"):  # version 2: "150000 100000", "max 100000"
        quota, period = told.split()
    else:  # version 1: -1 is none
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period else inf


def _limit(group: Path) -> float:
    """Bytes; version 1 says "none" by a number larger than any memory."""
    told = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
    return int(told) if told.isdecimal() else inf


def _gpus(root: Path, environment: Mapping[str, str]) -> int:
    """NVIDIA's that CUDA_VISIBLE_DEVICES lets be seen. Without CUDA, which whoever starts others should not begin."""
    there = _installed(root, environment)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    # CUDA looks no further than the first that there cannot be.
    return min(there, len(list(takewhile(lambda name: name.strip() not in ("", "-1"), visible.split(",")))))


def _installed(root: Path, environment: Mapping[str, str]) -> int:
    told = root / "proc/driver/nvidia/gpus"
    if told.is_dir():
        return len(list(told.iterdir()))
    asked = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if asked is None:
        return 0
    try:  # where the driver shows no such folder, as under WSL
        listed = subprocess.run([asked, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _onnxruntime_has_cuda() -> bool:
    from models.bundle import session  # onnxruntime: a machine without a GPU need not wait for it

    return session.has_cuda()


def _text(file: Path) -> str:
    """ "" where there is none."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
