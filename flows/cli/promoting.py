"""`trainserve models promote`, `rollback` and `history`: what a person decides, and who decided what."""

import json
import math
import sys

from rich import box
from rich.table import Table

from data.errors import InputError
from flows.cli import in_service, trusted
from flows.console import shown_time, stdout_console
from serving import aliases, challengers, store, verdicts
from serving.aliases import Change
from serving.refs import ROLES, ModelRef, StoreError

BY_HAND = "by hand"  # where nobody was asked for a reason, and nobody gave one


def promote(text: str, *, canary: str | None, shadow: str | None, because: str | None) -> None:
    if canary is not None and shadow is not None:
        raise InputError("a model is tried as a canary or as a shadow; give one of --canary and --shadow")
    tried = share(canary if shadow is None else shadow)
    ref = store.resolve(text)
    because = words(because)
    if shadow is None:
        require_reason(ref, because)
    store.verify(ref, signers=trusted.signers())  # the service would refuse a champion that does not open
    if tried is None:
        store.promote(ref, reason=because or BY_HAND, because=because)
        print(in_service.told(ref))
        return
    held = challengers.try_out(ref, share=tried, shadow=shadow is not None, reason=because or BY_HAND, because=because)
    does = "answers" if shadow is None else "is compared on"
    print(
        f"{ref} {does} {100 * tried:g} % of the requests to {ref.name}, beside {held.champion}; a service that follows "
        f"{ref.name} begins within two seconds, /model?model={ref.name} says how it does, and "
        f"`trainserve models rollback {ref.name}` ends it"
    )


def require_reason(ref: ModelRef, because: str | None) -> None:
    """Whatever is to answer requests against its verdict, or without one, needs a person's reason: it is recorded."""
    if because is None and (objection := verdicts.objection(ref)) is not None:
        raise InputError(f'{objection}; say why it is to serve all the same with --because "..."')


def words(given: str | None) -> str | None:
    """Blanks are no reason."""
    return " ".join(given.split()) or None if given is not None else None


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


def rollback(text: str, *, to: str | None, because: str | None) -> None:
    name = text.partition("@")[0]
    because = words(because)
    held = store.aliases(name)
    if held.trial is not None and to is None:
        tried = ModelRef(name=name, version=held.trial.version)
        challengers.withdraw(tried, reason=because or BY_HAND)
        print(f"the trial of {tried} is ended: {held.champion} answers all requests to {name} again")
        return
    ref = store.earlier(name, version_of(name, to))
    store.verify(ref, signers=trusted.signers())
    # That very version: meanwhile another may have become the previous one, which nobody has looked at.
    back = store.rollback(name, reason=because or BY_HAND, to=ref.version, because=because)
    print(in_service.told(back))


def version_of(name: str, to: str | None) -> str | None:
    """`VERSION`, as `models history` shows it, or the whole of NAME@VERSION."""
    if to is None or "@" not in to:
        return to
    other, _, version = to.partition("@")
    if other != name:
        raise InputError(f"{to} is no version of {name}; give one that `trainserve models history {name}` shows")
    return version


def history(text: str, *, as_json: bool) -> None:
    name = text.partition("@")[0]
    held = store.aliases(name)
    if not held.history:
        known = ", ".join(aliases.names(store.home())) or "none yet"
        raise StoreError(f"model {name!r} has no history; names that have one: {known}")
    if as_json:
        lines = [change.model_dump(mode="json") | {"model": f"{name}@{change.version}"} for change in held.history]
        now = {role: str(ref) if (ref := getattr(held, role)) else None for role in ROLES}
        sys.stdout.write(json.dumps({"name": name, **now, "history": lines}) + "\n")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("when", "what", "version"):
        table.add_column(column, no_wrap=True)
    for column in ("replaced", "by", "verdict", "why"):
        table.add_column(column, overflow="fold")
    for change in held.history:
        champion = held.champion is not None and change.version == held.champion.version
        table.add_row(*row(change), style="bold" if champion and change.what in aliases.DECISIONS else "")
    stdout_console().print(table)


def row(change: Change) -> tuple[str, ...]:
    """The words of the table; what old files do not say stays empty."""
    replaced, by, verdict = change.replaced or "", change.by or "", change.verdict or ""
    return shown_time(change.when), change.what, change.version, replaced, by, verdict, change.reason
