"""This machine: what is installed, where is room, which ports and GPUs are free."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import httpx

from data.errors import InputError
from flows.health import listeners, processes
from flows.health.checked import Checked, Checks
from flows.place import home, writable_home

ENOUGH_DISK_GB = 5.0
DEVICES = ("nvidia[0-9]*", "dxg", "kfd")  # what a driver makes: NVIDIA's, Windows' for Linux, AMD's
PACKAGES = ("torch", "torchvision", "prefect", "fastapi", "sqlalchemy", "onnx", "onnxruntime", "bentoml")

# package -> (first release that does not work, what happens)
TOO_NEW = {
    "fastapi": ((0, 151), "Prefect 3.8's server refuses its own client's requests with it; install 'fastapi<0.151'"),
    "sqlalchemy": ((2, 1), "Prefect 3.8 never creates a scheduled run with it; install 'sqlalchemy<2.1'"),
    "prefect": ((3, 9), "it is newer than what is tested; install 'prefect<3.9'"),
}
TOO_OLD = {
    "prefect": ((3, 8, 8), "deployments and leases of older ones differ; install 'prefect>=3.8.8'"),
    "onnx": ((1, 21), "it follows external-data paths out of the model folder (CVE-2025-51480); install 'onnx>=1.21'"),
    "torch": ((2, 11), "it is older than what is tested; install 'torch>=2.11'"),
}


def versions() -> Checks:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            yield Checked(package, "note", "not installed; needed for training, not for serving")
    wanted = _torch_of_torchvision() if "torchvision" in installed else None
    yield from judged(installed, torch_wanted=wanted)


def judged(installed: Mapping[str, str], *, torch_wanted: str | None = None) -> Checks:
    """Versions that are known not to work, alone or together. `torch_wanted`: the release torchvision was built for."""
    for package, number in installed.items():
        if package in TOO_NEW and numbers(number) >= TOO_NEW[package][0]:
            yield Checked(package, "wrong", f"{number}: {TOO_NEW[package][1]}")
        elif package in TOO_OLD and numbers(number) < TOO_OLD[package][0]:
            yield Checked(package, "wrong", f"{number}: {TOO_OLD[package][1]}")
        elif package == "torchvision" and torch_wanted and numbers(installed.get("torch", "")) != numbers(torch_wanted):
            there = installed.get("torch", "none")
            yield Checked(package, "wrong", f"{number} was built for torch {torch_wanted}, and {there} is installed")
        else:
            yield Checked(package, "ok", number)


def home_folder() -> Checks:
    try:
        yield Checked("home", "ok", f"{writable_home()} can be written")
    except InputError as error:
        yield Checked("home", "wrong", str(error))


def disk() -> Checks:
    place = next(folder for folder in (home(), *home().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < ENOUGH_DISK_GB:
        remedy = f"{free:.1f} GB free at {place}; training wants {ENOUGH_DISK_GB:.0f}: delete old runs or move the home"
        yield Checked("disk", "wrong", remedy)
    else:
        yield Checked("disk", "ok", f"{free:.0f} GB free at {place}")


def gpu() -> Checks:
    if find_spec("torch") is None:
        return
    if not any(any(Path("/dev").glob(name)) for name in DEVICES) and sys.platform != "darwin":
        yield Checked("GPU", "note", f"none; training uses {os.cpu_count()} CPU cores")
        return
    import torch  # ten seconds

    if torch.cuda.is_available():
        yield Checked("GPU", "ok", torch.cuda.get_device_name())
        yield from gpu_memory(_compute_apps())
    elif torch.backends.mps.is_available():
        yield Checked("GPU", "ok", "Apple's")
    else:
        yield Checked("GPU", "wrong", "there is one that torch cannot use; check the driver with nvidia-smi")


def gpu_memory(apps: str) -> Checks:
    """Who holds memory on a GPU: `apps` as nvidia-smi tells it, a line of `pid, MiB` each."""
    working = processes.by_run()
    if working is None:  # whose they are cannot be known
        return
    for line in apps.splitlines():
        pid, _, memory = line.partition(",")
        if not (pid.strip().isdecimal() and memory.strip().isdecimal()) or int(pid) == os.getpid():
            continue
        held = f"process {int(pid)} ({listeners.command_of(int(pid))}) holds {int(memory) / 1024:.1f} GB"
        left = [one for one in working.values() if int(pid) in one.others and not one.alive]
        if left:
            yield Checked("GPU memory", "wrong", f"{held}, left behind by a run that is gone", fix=_end(left[0], held))
        elif not any(int(pid) in (*one.engine, *one.others) for one in working.values()):
            yield Checked("GPU memory", "note", f"{held}, for no run of this project's")


def _end(left: processes.Worked, held: str) -> Callable[[], str]:
    def end() -> str:
        processes.end(left)
        return f"ended what {held}"

    return end


def ports(*, prefect: int = 4200, serving: int | None = None) -> Checks:
    serving = serving or int(os.environ.get("TRAINSERVE_PORT") or 3000)
    if listeners.taken(serving):
        if _answers(f"http://127.0.0.1:{serving}/livez"):
            yield Checked("port", "ok", f"{serving}: the service answers")
        else:
            by = listeners.holder(serving) or "another program"
            yield Checked("port", "note", f"{serving} is taken by {by}; start the service with --port of another one")
    else:
        yield Checked("port", "ok", f"{serving} is free for the service")
    chosen = os.environ.get("PREFECT_API_URL", "")
    if f":{prefect}/" not in chosen and listeners.taken(prefect):
        by = listeners.holder(prefect) or "another program"
        known = f"set PREFECT_API_URL=http://127.0.0.1:{prefect}/api to use it, if it is a Prefect server"
        yield Checked("port", "note", f"{prefect} is taken by {by}; {known}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _compute_apps() -> str:
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _torch_of_torchvision() -> str | None:
    for line in requires("torchvision") or []:
        if line.replace(" ", "").startswith("torch=="):
            return line.partition("==")[2].partition(";")[0].strip()
    return None


def numbers(installed: str) -> tuple[int, ...]:
    """2.15.0+cu130 -> (2, 15, 0)."""
    parts = installed.partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdecimal())
