"""What a figure was measured on."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "simplejpeg", "onnxruntime", "bentoml", "prefect")
MATTER = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of what a processor can, for the speed of training
MADE = (":!benchmarks/results", ":!benchmarks/results.md", ":!docs/defaults.md")  # by the benchmarks themselves


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    can = [one for one in MATTER if one in told.get("flags", "").split()]
    return told.get("model name", platform.processor()) + (f" ({', '.join(can)})" if can else "")


def commit() -> str:
    """With a + if files are changed that are no results; "unknown" outside a repository, and without git."""
    named = git("rev-parse", "--short", "HEAD")
    return (named or "unknown") + ("+" if named and git("status", "--porcelain", "-uno", "--", ".", *MADE) else "")


def git(*arguments: str) -> str:
    """What it says; "" where it fails or is not there."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def version(package: str) -> str:
    """ "" where it is not installed: some benchmarks need torch alone."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def command(name: str) -> str:
    """How this benchmark was started, without the folders of this machine."""
    shown = [Path(argument).name if "/" in argument else argument for argument in sys.argv[1:]]
    return " ".join([f"python -m benchmarks.{name}", *map(shlex.quote, shown)])


class Ticks(NamedTuple):
    """Of all processors since the machine started."""

    wanted: int  # by what ran here
    stolen: int  # of these: given to other guests of the same host


def ticks(file: Path = Path("/proc/stat")) -> Ticks:
    """Where there is no such file, nothing is known, and nothing was stolen."""
    if not file.exists():
        return Ticks(0, 0)
    user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, file.read_text().split(maxsplit=9)[1:9])
    return Ticks(user + nice + system + irq + softirq + stolen, stolen)


def stolen(before: Ticks, after: Ticks) -> float:
    """Share of the time wanted meanwhile that others got. Threads that wait for one another lose several times that."""
    return (after.stolen - before.stolen) / max(1, after.wanted - before.wanted)


def describe() -> dict[str, str]:
    versions = {name: version(name) for name in PACKAGES}
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "commit": commit(),
        **versions,
    }
