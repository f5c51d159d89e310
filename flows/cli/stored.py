"""`trainserve models list` and `verify`: the store, for people."""

import json
import sys

from rich import box
from rich.table import Table

from flows.cli import naming
from flows.console import shown_time, stdout_console
from models.bundle.bundle import Bundle
from serving import store


def show_all(*, as_json: bool) -> None:
    stored = store.listing()
    if as_json:
        lines = [one.model_dump(mode="json") | {"model": str(one.ref)} for one in stored]
        sys.stdout.write(json.dumps({"models": lines}) + "\n")
        return
    out = stdout_console()
    if not stored:
        out.print(f"No model in {store.home()} yet; `trainserve run` trains one.", soft_wrap=True, highlight=False)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)  # whole, to be copied
    table.add_column("role", overflow="fold")
    table.add_column("test accuracy", justify="right")
    table.add_column("created", overflow="fold")
    table.add_column("size", justify="right")
    for one in stored:
        accuracy = "" if one.accuracy is None else f"{100 * one.accuracy:.1f} %"
        style = "bold" if "champion" in one.roles else ""
        size = f"{one.bytes / 1e6:.1f} MB"
        roles = ", ".join([*one.roles, *(["on trial"] if one.tried else [])])
        table.add_row(str(one.ref), roles, accuracy, shown_time(one.created), size, style=style)
    out.print(table)


def verify(text: str) -> None:
    folder = naming.bundle_folder(text)
    card = Bundle.open(folder).card
    which = f"{card.name}@{card.version}"
    where = "" if folder.is_relative_to(store.home()) else f" in {folder}"
    print(f"{which}{where} is whole and answers its golden samples as it did when it was made")
