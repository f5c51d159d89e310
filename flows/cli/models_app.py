"""The commands about stored models: what each takes, and where it is done. No work here."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON object on standard output.")]
Reason = Annotated[str, Parameter(name="--reason", help="Why, for whoever reads the history later.")]

models_app = App(name="models", help="The models in the store, and which of them is in service.")


@models_app.command(name="list")
def list_(*, as_json: Json = False) -> None:
    """Every stored model, its roles and its accuracy."""
    from flows.cli import stored

    stored.show_all(as_json=as_json)


@models_app.command
def show(model: str, /, *, as_json: Json = False) -> None:
    """The card of NAME or NAME@VERSION: figures, data, lineage, and how it came to its role."""
    from flows.cli import stored

    stored.show_one(model, as_json=as_json)


@models_app.command
def promote(model: str, /, *, reason: Reason = "by hand") -> None:
    """Put NAME@VERSION into service."""
    from flows.cli import stored

    stored.promote(model, reason=reason)


@models_app.command
def rollback(name: str, /, *, reason: Reason = "by hand") -> None:
    """Put the previous champion of NAME into service again."""
    from flows.cli import stored

    stored.rollback(name, reason=reason)


@models_app.command
def verify(model: str, /) -> None:
    """Check the files of NAME@VERSION, or of a bundle folder, and replay its golden samples."""
    from flows.cli import stored

    stored.verify(model)


@models_app.command
def export(model: str, to: Path, /) -> None:
    """Copy the bundle of NAME@VERSION to the new folder TO."""
    from flows.cli import stored

    stored.export(model, to)
