"""`trainserve models show`: from `name@version`, as every answer of the service has it, to all that is known of it."""

import json
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console

from data.errors import InputError
from data.spec import Frozen
from flows import proof
from flows.console import shown_time
from flows.lineage import since
from flows.place import home
from flows.recorded import of_model
from models.cards import ModelCard
from models.config import Experiment
from models.evaluation.percent import percent
from models.verdict import MARKS
from serving import store, verdicts
from serving.refs import ROLES, ModelRef, StoreError

if TYPE_CHECKING:
    from serving.roles import Aliases

INDENT = 13  # columns before a value
UNCOMMITTED = {
    True: ", with changes that were not committed",
    False: "",
    None: "; whether all was committed is unknown",
}


def show_one(text: str, *, as_json: bool) -> None:
    ref = store.resolve(text)
    card, held = store.card(ref), store.aliases(ref.name)
    if as_json:
        known = {
            "model": str(ref),
            "data_since": data_since(ref, card),
            "roles": [role for role in ROLES if getattr(held, role) == ref],
            "verdicts": [one.model_dump(mode="json") for one in verdicts.given(ref)],
            "history": [one.model_dump(mode="json") for one in held.history if one.version == ref.version],
        }
        sys.stdout.write(json.dumps(card.model_dump(mode="json") | known) + "\n")
        return
    out = Console(highlight=False, soft_wrap=True)
    for name, value in (*figures(ref, card, held), *origin(ref, card), *judged(ref)):
        out.print(f"{name:<{INDENT - 1}} {value}", markup=False)
    for change in held.history:
        if change.version == ref.version:
            who = f" by {change.by}" if change.by else ""
            out.print(f"{shown_time(change.when)}  {change.what}{who}: {change.reason}", markup=False, style="dim")


def figures(ref: ModelRef, card: ModelCard, held: "Aliases") -> Iterator[tuple[str, str]]:
    """What it is and how well it does."""
    test, validation, calibration = card.test, card.validation, card.calibration
    yield "model", f"{ref}  ({', '.join(roles(ref, held)) or 'no role'})"
    yield "created", shown_time(card.created)
    yield "network", f"{card.kind}, {card.parameters:,} parameters"
    yield "input", f"{card.image.width} x {card.image.height} x {card.image.channels}"
    yield "classes", f"{len(card.classes)}: {', '.join(card.classes[:12])}{' ...' if len(card.classes) > 12 else ''}"
    interval = f"{percent(test.interval.low)} to {percent(test.interval.high)}"
    yield "test", f"{percent(test.accuracy)} of {test.n:,} ({interval}), macro F1 {percent(test.macro_f1)}"
    yield "validation", f"{percent(validation.accuracy)} of {validation.n:,}"
    if card.crossval is not None:
        cv = card.crossval
        yield "cross-val.", f"{percent(cv.mean)} ± {100 * cv.std:.1f} over {len(cv.folds)} folds"
    yield "calibration", f"error {percent(calibration.ece_after)}, before {percent(calibration.ece_before)}"
    if card.selective is not None:
        yield "sure", card.selective.said
    if card.outliers is not None:
        yield "strangers", card.outliers.said
    yield "export", proof.told(card)


def roles(ref: ModelRef, held: "Aliases") -> list[str]:
    found: list[str] = [role for role in ROLES if getattr(held, role) == ref]
    if held.trial is not None and held.tries(ref):
        found.append(f"{'shadow' if held.trial.shadow else 'canary'} of {100 * held.trial.share:g} %")
    return found


def origin(ref: ModelRef, card: ModelCard) -> Iterator[tuple[str, str]]:
    """What it was made of, where and by what."""
    lineage, folder = card.lineage, home() / "runs" / card.lineage.run_id
    yield "data", lineage.fingerprint
    if changed := data_since(ref, card):
        yield "data since", changed
    yield "run", f"{lineage.run_id}, {f'in {folder}' if folder.is_dir() else 'whose folder is not here, or gone'}"
    if lineage.reason:
        yield "asked for", lineage.reason
    yield "commit", f"{lineage.commit or 'unknown'}{UNCOMMITTED[lineage.dirty] if lineage.commit else ''}"
    yield "Prefect run", lineage.flow_run_url or "not kept: its server ended with the run"
    yield "folder", str(store.path(ref))
    yield "settings", f"\n{' ' * INDENT}".join(chosen(card)) or "all by default"


def data_since(ref: ModelRef, card: ModelCard) -> str | None:
    """As the run found it, or worked out now from the records of both; None where it was compared with none."""
    if card.lineage.data_since is not None:
        return card.lineage.data_since
    try:
        champions = [one.verdict.champion for one in verdicts.given(ref)]
        if not champions or champions[-1] in (None, str(ref)):
            return None
        pictures = of_model(str(ref), home())
        return since(store.resolve(str(champions[-1])), card.lineage.fingerprint, pictures, home())
    except InputError as error:
        return f"not known: {error}"
    except ValueError:  # the settings of another version
        return "not known: its settings are of another version of trainserve"


def chosen(card: ModelCard) -> list[str]:
    """The settings that differ from the defaults, as `trainserve run` takes them."""
    try:
        experiment = Experiment.model_validate(card.experiment)
    except ValidationError:
        return ["of another version of trainserve; --json has them as they were written"]
    differ = differing(experiment, Experiment())
    return [f"--{path} {shlex.quote(typed(value))}" for path, value in differ if path != "name"]


def differing(value: Frozen, usual: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """("train.epochs", 7) and so on. Of a kind that differs from the usual one, what differs from its own defaults."""
    for name, field in type(value).model_fields.items():
        one, default = getattr(value, name), field.get_default(call_default_factory=True)
        if isinstance(one, Frozen):
            yield from differing(one, default, f"{prefix}{name}.")
        elif one != (getattr(usual, "kind", None) if name == "kind" else default):
            yield f"{prefix}{name}", one


def typed(value: object) -> str:
    """As the command line takes it."""
    match value:
        case bool() | None:
            return str(value).lower()
        case tuple() | list():
            return ",".join(map(typed, value))
        case _:
            return str(value)


def judged(ref: ModelRef) -> Iterator[tuple[str, str]]:
    try:
        given = verdicts.given(ref)
    except StoreError as error:
        yield "verdict", str(error)
        return
    if not given:
        yield "verdict", "none: no run has compared it with a champion here"
    for one in given[-1:]:
        word = "promoted" if one.verdict.promoted else "refused"
        yield "verdict", f"{word} at {shown_time(one.when)}: {one.verdict.reason}"
        for check in one.verdict.checks:
            yield "", f"{MARKS[check.ok]} {check.name}: {check.said}"
