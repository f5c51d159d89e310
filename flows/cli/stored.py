"""`trainserve models ...`: the store, for people."""

import json
import math
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from data.errors import InputError
from flows import proof
from flows.cli import in_service, naming
from flows.console import shown_time, stdout_console
from models.bundle.bundle import Bundle
from serving import challengers, store
from serving.refs import ROLES, ModelRef


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
    roles: list[str] = [role for role in ROLES if getattr(held, role) == ref]
    if held.trial is not None and held.trial.version == ref.version:
        roles.append(f"{'shadow' if held.trial.shadow else 'canary'} of {100 * held.trial.share:g} %")
    test, validation = card.test, card.validation
    rows = {
        "model": f"{ref}  ({', '.join(roles) or 'no role'})",
        "created": shown_time(card.created),
        "network": f"{card.kind}, {card.parameters:,} parameters",
        "input": f"{card.image.width} x {card.image.height} x {card.image.channels}",
        "classes": f"{len(card.classes)}: {', '.join(card.classes[:12])}{' ...' if len(card.classes) > 12 else ''}",
        "test": f"{_share(test.accuracy)} of {test.n:,} ({_share(test.interval.low)} to {_share(test.interval.high)})",
        "validation": f"{_share(validation.accuracy)} of {validation.n:,}",
        "calibration": f"error {_share(card.calibration.ece_after)}, before {_share(card.calibration.ece_before)}",
        "export": proof.told(card),
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


def promote(text: str, *, canary: str | None, shadow: str | None, reason: str) -> None:
    if canary is not None and shadow is not None:
        raise InputError("a model is tried as a canary or as a shadow; give one of --canary and --shadow")
    tried = share(canary if shadow is None else shadow)
    ref = store.resolve(text)
    store.verify(ref)  # a champion that does not open would be refused by the service
    if tried is None:
        store.promote(ref, reason=reason)
        print(in_service.told(ref))
        return
    held = challengers.try_out(ref, share=tried, shadow=shadow is not None, reason=reason)
    does = "answers" if shadow is None else "is compared on"
    print(
        f"{ref} {does} {100 * tried:g} % of the requests to {ref.name}, beside {held.champion}; a service that follows "
        f"{ref.name} begins within two seconds, /model?model={ref.name} says how it does, and "
        f"`trainserve models rollback {ref.name}` ends it"
    )


def share(text: str | None) -> float | None:
    """`10%` or `0.1`. Raises `InputError`."""
    if text is None:
        return None
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / (100 if "%" in text else 1)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise InputError(f"the share {text!r} is not above 0 and at most 100 %; write it as 10% or 0.1")
    return value


def rollback(name: str, *, reason: str) -> None:
    name = name.partition("@")[0]
    held = store.aliases(name)
    if held.trial is None:
        print(in_service.told(store.rollback(name, reason=reason)))
        return
    tried = ModelRef(name=name, version=held.trial.version)
    challengers.withdraw(tried, reason=reason)
    print(f"the trial of {tried} is ended: {held.champion} answers all requests to {name} again")


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
