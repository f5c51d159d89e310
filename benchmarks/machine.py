"""What a figure was measured on."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "onnxruntime", "bentoml", "prefect")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return (done.stdout.strip() or "unknown") + ("+" if dirty.stdout.strip() else "")


def version(package: str) -> str:
    """ "" where it is not installed: some benchmarks need torch alone."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def command(name: str) -> str:
    """How this benchmark was started, without the folders of this machine."""
    shown = [Path(argument).name if "/" in argument else argument for argument in sys.argv[1:]]
    return " ".join([f"python -m benchmarks.{name}", *shown])


def describe() -> dict[str, str]:
    versions = {name: version(name) for name in PACKAGES}
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "commit": commit(),
        **versions,
    }
