"""`trainserve models ...`: the store, for people."""

import json
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from flows.cli import in_service, naming
from flows.console import shown_time, stdout_console
from models.bundle.bundle import Bundle
from serving import store
from serving.refs import ROLES


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
        table.add_row(str(one.ref), ", ".join(one.roles), accuracy, shown_time(one.created), size, style=style)
    out.print(table)


def show_one(text: str, *, as_json: bool) -> None:
    ref = store.resolve(text)
    card, held = store.card(ref), store.aliases(ref.name)
    if as_json:
        sys.stdout.write(card.model_dump_json() + "\n")
        return
    out = Console(highlight=False, soft_wrap=True)
    roles = [role for role in ROLES if getattr(held, role) == ref]
    test, validation, parity = card.test, card.validation, card.parity
    rows = {
        "model": f"{ref}  ({', '.join(roles) or 'no role'})",
        "created": shown_time(card.created),
        "network": f"{card.kind}, {card.parameters:,} parameters",
        "input": f"{card.image.width} x {card.image.height} x {card.image.channels}",
        "classes": f"{len(card.classes)}: {', '.join(card.classes[:12])}{' ...' if len(card.classes) > 12 else ''}",
        "test": f"{_share(test.accuracy)} of {test.n:,} ({_share(test.interval.low)} to {_share(test.interval.high)})",
        "validation": f"{_share(validation.accuracy)} of {validation.n:,}",
        "calibration": f"error {_share(card.calibration.ece_after)}, before {_share(card.calibration.ece_before)}",
        "export": f"largest difference {parity.largest_difference:.1e}, {parity.changed_answers} changed answers",
        "data": card.lineage.fingerprint[:16],
        "run": card.lineage.run_id,
        "commit": card.lineage.commit or "unknown",
        "Prefect run": card.lineage.flow_run_url or "not kept",
        "folder": str(store.path(ref)),
    }
    if card.crossval is not None:
        folds = len(card.crossval.folds)
        rows["cross-val."] = f"{_share(card.crossval.mean)} ± {100 * card.crossval.std:.1f} over {folds} folds"
    for name, value in rows.items():
        out.print(f"{name:<12} {value}", markup=False)
    for change in held.history:
        if change.version == ref.version:
            out.print(f"{shown_time(change.when)}  {change.what}: {change.reason}", markup=False, style="dim")


def promote(text: str, *, reason: str) -> None:
    ref = store.resolve(text)
    store.verify(ref)  # a champion that does not open would be refused by the service
    store.promote(ref, reason=reason)
    print(in_service.told(ref))


def rollback(name: str, *, reason: str) -> None:
    print(in_service.told(store.rollback(name.partition("@")[0], reason=reason)))


def verify(text: str) -> None:
    folder = naming.bundle_folder(text)
    card = Bundle.open(folder).card
    which = f"{card.name}@{card.version}"
    where = "" if folder.is_relative_to(store.home()) else f" in {folder}"
    print(f"{which}{where} is whole and answers its golden samples as it did when it was made")


def export(text: str, to: Path) -> None:
    print(store.export(store.resolve(text), to))


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
