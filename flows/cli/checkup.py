"""`trainserve doctor`: what is wrong with this installation, and the remedy."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data.errors import InputError
from data.spec import Frozen
from flows import server
from flows.console import stdout_console
from flows.place import home, writable_home
from models.bundle.manifest import BundleError
from serving import store

ENOUGH_DISK_GB = 5.0
STYLES = {"ok": "green", "note": "dim", "wrong": "red"}


class Checked(Frozen):
    """One line of the examination."""

    what: str
    level: Literal["ok", "note", "wrong"]
    message: str


# package -> (first release that does not work, what happens)
TOO_NEW = {
    "fastapi": ((0, 153), "Prefect 3.8's server does not start with it; install 'fastapi<0.153'"),
    "sqlalchemy": ((2, 1), "Prefect 3.8 never creates a scheduled run with it; install 'sqlalchemy<2.1'"),
}
TOO_OLD = {
    "onnx": ((1, 21), "it follows external-data paths out of the model folder (CVE-2025-51480); install 'onnx>=1.21'"),
    "torch": ((2, 11), "it is older than what is tested; install 'torch>=2.11'"),
}


def run(*, as_json: bool) -> None:
    """Exit status 1 if something is wrong."""
    found = list(examine())
    if as_json:
        sys.stdout.write(json.dumps({"checks": [one.model_dump() for one in found]}) + "\n")
    else:
        show(found, stdout_console())
    if any(one.level == "wrong" for one in found):
        sys.exit(1)


def examine() -> Iterator[Checked]:
    checks: tuple[Callable[[], Iterator[Checked]], ...] = (versions, home_folder, disk, prefect_api, models, gpu)
    for check in checks:
        yield from check()


def versions() -> Iterator[Checked]:
    for package in ("torch", "prefect", "fastapi", "sqlalchemy", "onnx", "onnxruntime", "bentoml"):
        try:
            installed = version(package)
        except PackageNotFoundError:
            yield Checked(what=package, level="note", message="not installed; needed for training, not for serving")
            continue
        number = _numbers(installed)
        if package in TOO_NEW and number >= TOO_NEW[package][0]:
            yield Checked(what=package, level="wrong", message=f"{installed}: {TOO_NEW[package][1]}")
        elif package in TOO_OLD and number < TOO_OLD[package][0]:
            yield Checked(what=package, level="wrong", message=f"{installed}: {TOO_OLD[package][1]}")
        else:
            yield Checked(what=package, level="ok", message=installed)


def home_folder() -> Iterator[Checked]:
    try:
        yield Checked(what="home", level="ok", message=f"{writable_home()} can be written")
    except InputError as error:
        yield Checked(what="home", level="wrong", message=str(error))


def disk() -> Iterator[Checked]:
    place = next(folder for folder in (home(), *home().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < ENOUGH_DISK_GB:
        remedy = f"{free:.1f} GB free at {place}; training wants {ENOUGH_DISK_GB:.0f}: delete old runs or move the home"
        yield Checked(what="disk", level="wrong", message=remedy)
    else:
        yield Checked(what="disk", level="ok", message=f"{free:.0f} GB free at {place}")


def prefect_api() -> Iterator[Checked]:
    if find_spec("prefect") is None:
        return
    api = server.configured()
    if api is None:
        message = "no server chosen: each run brings its own; a schedule needs `prefect server start`"
        yield Checked(what="Prefect", level="note", message=message)
        return
    try:
        server.require_answer(api)
        yield Checked(what="Prefect", level="ok", message=f"{api} answers")
    except InputError as error:
        yield Checked(what="Prefect", level="wrong", message=str(error))


def models() -> Iterator[Checked]:
    """Every model that has a role must open; the service would refuse it otherwise."""
    stored = [one for one in store.listing() if one.roles]
    if not stored:
        yield Checked(
            what="models", level="note", message=f"none in service in {store.home()}; `trainserve run` trains one"
        )
    for one in stored:
        roles = ", ".join(one.roles)
        try:
            store.verify(one.ref)
            yield Checked(what="model", level="ok", message=f"{one.ref} ({roles}) is whole and answers as it did")
        except BundleError as error:
            remedy = f"{error}; `trainserve models rollback {one.ref.name}` or train again"
            yield Checked(what="model", level="wrong", message=f"{one.ref} ({roles}): {remedy}")


def gpu() -> Iterator[Checked]:
    if find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        yield Checked(what="GPU", level="ok", message=torch.cuda.get_device_name())
    elif Path("/dev/nvidia0").exists():
        remedy = "there is one that torch cannot use; check the driver with nvidia-smi"
        yield Checked(what="GPU", level="wrong", message=remedy)
    else:
        yield Checked(what="GPU", level="note", message=f"none; training uses {os.cpu_count()} CPU cores")


def show(found: list[Checked], console: Console) -> None:
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found:
        table.add_row(Text(one.level, style=STYLES[one.level]), one.what, Text(one.message))
    console.print(table)


def _numbers(installed: str) -> tuple[int, ...]:
    """2.15.0+cu130 -> (2, 15, 0)."""
    parts = installed.partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdecimal())
